"""The page of a comparison in a browser: on any screen, in both themes, with its records, and safe whatever it says."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from invented_advice import EVIL
from page_in_browser import page_width, wcag_violations

from moebench.reports.comparisons.comparison import ComparedSide, SideBySide
from moebench.reports.comparisons.comparison_page import ComparisonPage
from moebench.results.record import Record

if TYPE_CHECKING:
    from playwright.sync_api import Page

Open = Callable[..., "Page"]


@pytest.fixture(scope="module")
def comparison(
    suites: dict[str, list[Record]], evil: list[Record], tmp_path_factory: pytest.TempPathFactory
) -> tuple[SideBySide, Path]:
    """Write the page of a suite against itself at half the speed, with hostile names on both sides."""
    old = [*suites["capacity"], *evil]
    new = [_slower(record) for record in old]
    found = SideBySide(ComparedSide(name=EVIL, records=old), ComparedSide(name="new", records=new))
    return found, ComparisonPage(found).write(tmp_path_factory.mktemp("comparison") / "page.html")


def _slower(record: Record) -> Record:
    if record.timing is None:
        return record
    timing = record.timing.model_copy(update={"samples_ns": [2 * sample for sample in record.timing.samples_ns]})
    return record.model_copy(update={"timing": timing})


@pytest.mark.parametrize(("scheme", "width"), [("light", 390), ("dark", 1440)])
def test_contrast_and_names_meet_wcag_aa_and_no_screen_is_too_narrow(
    opened: Open, comparison: tuple[SideBySide, Path], scheme: str, width: int
) -> None:
    page = opened(comparison[1], width=width, color_scheme=scheme)
    assert wcag_violations(page) == []
    assert page_width(page) == width


def test_without_scripts_the_answer_the_drawing_and_every_point_are_there(
    opened: Open, comparison: tuple[SideBySide, Path]
) -> None:
    found, path = comparison
    page = opened(path, java_script_enabled=False)
    assert page.locator(".answer").inner_text() == found.sentence
    assert page.locator("table.trials > tbody > tr").count() == len(found.points)
    assert page.locator(".panel svg").first.is_visible()
    assert page.locator("button, input, select").count() == 0, "controls that would do nothing"


def test_points_sort_filter_and_show_the_records_of_both_sides(
    opened: Open, comparison: tuple[SideBySide, Path]
) -> None:
    found, path = comparison
    page = opened(path)
    rows = page.locator("table.trials > tbody > tr:visible")
    old = page.locator("table.trials thead button", has_text="old (ms)")
    old.focus()
    page.keyboard.press("Enter")
    times = [float(text) for text in rows.locator("td:nth-of-type(3)").all_inner_texts() if text != "–"]
    assert len(times) == sum(point.old is not None for point in found.points)
    assert times == sorted(times)
    page.locator("input[type=search]").fill(found.points[0].kernel)
    assert 0 < rows.count() < len(found.points)
    outcomes = page.locator("select option").all_inner_texts()
    assert outcomes == ["all", *sorted({point.standing for point in found.points})], "no outcome that no row has"
    for side, column in ((found.old, 3), (found.new, 4)):
        link = rows.first.locator(f"td:nth-of-type({column}) a")
        number = int((link.get_attribute("href") or "").removeprefix("#record-"))
        record = found.records[number]
        assert record in side.records
        link.click()
        page.locator("dialog pre", has_text='"samples_ns"').wait_for()
        assert json.loads(page.locator("dialog pre").inner_text())["key"] == record.key
        page.get_by_role("button", name="Close").click()
