"""Terminal tables fit the width they are given and keep what matters."""

from __future__ import annotations

import io
from collections.abc import Callable

import pytest
from rich.console import Console

from moebench.reports.numbers import GROUP
from moebench.reports.section import sections
from moebench.reports.terminal import terminal
from moebench.results.record import Record, Status

Make = Callable[..., Record]


def _printed(records: list[Record], width: int) -> str:
    console = Console(width=width, file=io.StringIO(), record=True, color_system=None)
    for table in terminal(sections(records)):
        console.print(table)
    return console.export_text()


@pytest.mark.parametrize("width", [40, 60, 80, 140])
def test_every_line_fits_and_the_essentials_stay(sweep: list[Record], width: int) -> None:
    text = _printed(sweep, width)
    assert max(map(len, text.splitlines())) <= width
    for essential in ("kernel", "outcome", "(ms)", "triton_grouped", "fastest", "tied", "reference", "out of memory"):
        assert essential in text


def test_a_wider_terminal_shows_more(sweep: list[Record]) -> None:
    assert "too narrow for" not in _printed(sweep, 300)
    said = " ".join(_printed(sweep, 60).split())
    left_out, _, _ = said.partition("too narrow for ")[2].partition(": the page has all columns")
    assert "tokens/s" in left_out.split(", ")


def test_no_number_is_broken_between_its_thousands(make: Make) -> None:
    records = [make(x=float(2**power), axis="tokens of the whole batch, all ranks") for power in range(18, 20)]
    for width in range(45, 75):
        whole = _printed(records, width).count(f"524{GROUP}288")
        assert whole == 2, f"the table and the growth at width {width}"


def test_one_table_a_suite(sweep: list[Record]) -> None:
    assert len(terminal(sections(sweep))) == 5


def test_the_sizes_of_what_was_measured_are_told_once_a_line(make: Make) -> None:
    records = [make(x=float(T), series="Mixtral-8x7B, D=2048", problem={"T": T}) for T in (512, 1024)]
    heading = "Mixtral-8x7B, D=2048 · bfloat16 · forward · T=512 to 1024, F=1024, E=64, K=8"
    assert heading in _printed(records, 100).splitlines()


def test_reasons_are_told_once_a_kernel(make: Make) -> None:
    records = [make("a", x=float(x), status=Status.timeout, reason=f"ran over {x} s") for x in (1, 2, 3)]
    assert "a: timeout: ran over 1 s (and 2 more)" in _printed(records, 100)


def test_markup_and_escapes_of_records_are_shown_and_not_obeyed(make: Make) -> None:
    text = _printed([make("[red]a[/red]", series="\x1b[2J", suite="[bold]s")], 100)
    assert "[red]a[/red]" in text
    assert "[bold]s" in text
    assert "\x1b" not in text


def test_long_names_are_folded_until_the_table_fits(make: Make) -> None:
    text = _printed([make("k" * 120, x="x" * 120, series="s" * 120)], 60)
    assert max(map(len, text.splitlines())) <= 60
    assert "fastest" not in text
    assert "only one" in text
