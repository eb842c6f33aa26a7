"""A long table is drawn where it is in sight, and is one table all the same: to sort, filter, find, print and read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from moebench.reports.report import Report
from moebench.results.record import Record, Status

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

Make = Callable[..., Record]
Open = Callable[..., "Page"]

KERNELS = ("first", "second", "third_with_a_name_of_many_words_of_which_none_is_short")
POINTS = 120


@pytest.fixture(scope="module")
def long(make: Make, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a page of 360 trials, 40 of which failed."""
    records = [
        make(kernel, x=float(x), problem={"T": x}, ms=1 + (x * 7919 % 1009) / 100 + 20 * order)
        if order or x % 3
        else make(kernel, x=float(x), problem={"T": x}, status=Status.crashed, reason="it fell over " * 9)
        for x in range(1, POINTS + 1)
        for order, kernel in enumerate(KERNELS)
    ]
    return Report(records).write(tmp_path_factory.mktemp("long") / "report.html")


def _trials(page: Page) -> Locator:
    fold = page.locator("main details:not(.fold)").first
    fold.evaluate("(fold) => (fold.open = true)")
    return page.locator("table.trials")


def _medians(table: Locator) -> list[str]:
    texts: list[str] = table.evaluate(
        """(table) => {
          const at = [...table.tHead.rows[0].cells].findIndex((cell) => cell.dataset.heading === "median (ms)");
          return [...table.querySelectorAll("tbody tr:not([hidden])")]
            .map((row) => row.cells[at]?.colSpan === 1 ? row.cells[at].textContent : "–");
        }"""
    )
    return texts


def _drawn(row: Locator) -> bool:
    drawn: bool = row.evaluate("(row) => row.checkVisibility({ contentVisibilityAuto: true })")
    return drawn


def test_what_is_out_of_sight_is_not_drawn_until_the_keyboard_leads_to_it(opened: Open, long: Path) -> None:
    page = opened(long)
    rows = _trials(page).locator("tbody tr")
    assert rows.count() == len(KERNELS) * POINTS
    last = rows.last.element_handle()
    assert not _drawn(rows.last)
    rows.last.locator("a").evaluate("(link) => link.focus()")
    page.wait_for_function("(row) => row.checkVisibility({ contentVisibilityAuto: true })", arg=last)
    page.wait_for_function(
        "(row) => { const { top, bottom } = row.getBoundingClientRect(); return top >= 0 && bottom <= innerHeight; }",
        arg=last,
    )


def test_sorting_and_filtering_go_over_all_bodies(opened: Open, long: Path) -> None:
    page = opened(long)
    table = _trials(page)
    before = _medians(table)
    median = table.locator("th[data-heading='median (ms)']").get_by_role("button")
    section = page.locator("main > section")
    section.get_by_label("Rows with").fill("first")
    median.click()
    median.click()
    shown = _medians(table)
    assert len(shown) == POINTS
    times = [float(text) for text in shown if text != "–"]
    assert times == sorted(times, reverse=True)
    assert shown[len(times) :] == ["–"] * (POINTS // 3)
    assert section.get_by_role("status").inner_text() == f"{POINTS} of {len(before)} shown"
    section.get_by_label("Rows with").fill("")
    median.click()
    assert _medians(table) == before


@pytest.mark.parametrize("width", [390, 1440])
def test_columns_stand_under_their_headings_and_figures_in_sight(opened: Open, long: Path, width: int) -> None:
    page = opened(long, width=width)
    table = _trials(page)
    edges = """(row) => [...row.cells].flatMap((cell) => {
      const box = cell.getBoundingClientRect();
      return [Math.round(box.left), Math.round(box.right)];
    })"""
    headings = table.locator("thead tr").evaluate(edges)
    assert table.locator("tbody tr:not(.failed)").first.evaluate(edges) == headings
    assert table.locator("tbody tr:not(.failed)").last.evaluate(edges) == headings
    failed = table.locator("tbody tr.failed").first.evaluate(edges)
    assert failed[:4] == headings[:4]
    assert failed[-1] == headings[-1], "the reason takes the columns of the figures"
    box = table.locator("thead th", has_text="median").bounding_box()
    assert box is not None
    assert box["x"] < width
    texts = table.locator("tbody tr:not([hidden]) > *").evaluate_all(
        "(cells) => cells.filter((cell) => cell.scrollWidth > cell.clientWidth + 1).map((cell) => cell.textContent)"
    )
    assert texts == [], "texts that are wider than their cells"
    assert page.evaluate("document.documentElement.scrollWidth") == width


def test_on_paper_it_is_a_table_and_whole(opened: Open, long: Path) -> None:
    page = opened(long)
    rows = _trials(page).locator("tbody tr")
    page.emulate_media(media="print")
    assert _drawn(rows.last)
    assert rows.last.evaluate("(row) => getComputedStyle(row).display") == "table-row"
    button = page.locator("table.trials thead button").first
    shown = button.evaluate("(button) => getComputedStyle(button).display")
    assert shown == "contents", "the text of a button that has a box is on the first page alone"
