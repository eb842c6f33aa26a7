"""Advice on a terminal: no line wider than it, nothing that moves its cursor, and what is advised is marked."""

from __future__ import annotations

import pytest
from invented_advice import EVIL, advice, invented
from rich.console import Console

from moebench.reports.advice.advice_table import SHOWN, advice_table
from moebench.results.record.advice import Advice


def printed(one: Advice, width: int = 80) -> str:
    console = Console(width=width, highlight=False, markup=False, emoji=False)
    with console.capture() as captured:
        for part in advice_table(one):
            console.print(part)
    return captured.get()


@pytest.mark.parametrize("width", [20, 40, 80, 120])
def test_no_line_is_wider_than_the_terminal(width: int) -> None:
    assert max(len(line.rstrip()) for line in printed(advice(), width).splitlines()) <= width


def test_a_table_has_the_first_dispatches_and_says_which_is_advised() -> None:
    option = advice().phases[0].options[0]
    many = [option.model_copy(update={"kernel": f"kernel_{number}"}) for number in range(SHOWN + 3)]
    text = printed(invented(phases=[advice().phases[0].model_copy(update={"options": many})]), 120)
    rows = [line for line in text.splitlines() if line.startswith("kernel_")]
    assert len(rows) == SHOWN
    assert "advised" in rows[0]
    assert "+0 %" in rows[1]


def test_what_is_tied_says_so_in_place_of_a_difference_and_which_needs_the_least_memory() -> None:
    text = " ".join(printed(advice(), 120).split())
    assert "tied with it: grouped; of them all loop needs the least memory, 1.00 MiB" in text
    row = next(line for line in printed(advice(), 120).splitlines() if line.startswith("grouped") and "51.0" in line)
    assert row.split()[-2:] == ["tied", "measured"]


def test_text_of_anywhere_does_nothing_to_the_terminal() -> None:
    option = advice().phases[0].options[0].model_copy(update={"kernel": EVIL, "config": {EVIL: EVIL}})
    phase = advice().phases[0].model_copy(update={"options": [option]})
    assert "\x1b" not in printed(invented(phases=[phase], layer=EVIL, device=EVIL, notes=[EVIL], command=EVIL))


def test_without_a_price_there_is_no_column_of_costs() -> None:
    assert "cost per" in printed(advice())
    assert "cost per" not in printed(invented(price_per_hour=None))
