"""Tables of routes: shown where one layer is compared under several loads or routers, and only there."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from moebench.reports.balance_measures import BALANCE_MEASURES
from moebench.reports.measures import values
from moebench.reports.report import Report
from moebench.reports.section import sections
from moebench.reports.terminal import terminal
from moebench.results.record import Balance, Record, RouterLosses

Make = Callable[..., Record]

LOSSES = RouterLosses(load_balancing=1.25, first_choices=1.5, z=36.5, expert_entropy=4.125, token_entropy=2.75)
BALANCE = Balance(
    max_over_mean=3.5,
    gini=0.375,
    dead_experts=13,
    load_cv2=0.0625,
    importance_cv2=0.125,
    dropped_gates=0.25,
    sufficient_capacity_factor=4.5,
    padding={16: 0.02, 64: 0.09, 128: 0.2},
    losses=LOSSES,
)


@pytest.fixture
def compared(make: Make) -> list[Record]:
    """Return records of two kernels at two loads."""
    return [
        make(kernel, x=load, problem={"load": load, "router": "softmax_topk"}).model_copy(update={"balance": BALANCE})
        for load in ("uniform", "hot")
        for kernel in ("loop", "padded")
    ]


def printed(records: list[Record], width: int) -> str:
    console = Console(width=width, file=io.StringIO(), record=True, color_system=None)
    for table in terminal(sections(records)):
        console.print(table)
    return console.export_text()


def test_a_place_has_one_row_whatever_the_number_of_kernels(compared: list[Record]) -> None:
    (section,) = sections(compared)
    assert [row.place.x for row in section.balanced] == ["uniform", "hot"]
    assert len(section.rows) == 4


def test_terminal_shows_every_measure_where_it_is_wide_and_the_routes_where_it_is_narrow(
    compared: list[Record],
) -> None:
    wide, narrow = printed(compared, 200), printed(compared, 50)
    shown = ("Routes and router at each place", "3.50", "0.375", "13", "25.0", "H(m|x)", "36.5", "2.75")
    assert all(words in wide for words in shown)
    assert "Gini" in narrow
    assert "z-loss" not in narrow
    assert max(map(len, narrow.splitlines())) <= 50


def test_pages_have_the_table_and_the_glossary(compared: list[Record], tmp_path: Path) -> None:
    markdown = Report(compared).write(tmp_path / "r.md").read_text(encoding="utf-8")
    page = Report(compared).write(tmp_path / "r.html").read_text(encoding="utf-8")
    assert "Routes and router at each place, the same for every kernel" in markdown
    assert "<caption><span>Routes and router at each place" in page
    for text in (markdown, page):
        assert "experts without a row" in text
        assert "36.5" in text
    (heading,) = [line for line in markdown.splitlines() if "max/mean" in line and line.startswith("|")]
    assert heading.startswith("| line | tokens | max/mean")


def test_files_have_every_measure(compared: list[Record]) -> None:
    found = values(sections(compared)[0].rows[0])
    assert {measure.name for measure in BALANCE_MEASURES} <= found.keys()
    assert (found["dead_experts"], found["padding_64"], found["router_z"]) == (13, 0.09, 36.5)


def test_no_table_where_nothing_of_the_routing_is_compared(make: Make) -> None:
    one_load = [
        make(x=float(T), problem={"T": T, "load": "uniform"}).model_copy(update={"balance": BALANCE}) for T in (1, 2)
    ]
    earlier = [make(x=load, problem={"load": load}) for load in ("uniform", "hot")]
    for records in (one_load, earlier):
        assert [section.balanced for section in sections(records)] == [[]]
        assert "Routes and router" not in printed(records, 100)
    assert values(sections(earlier)[0].rows[0])["gini"] is None
