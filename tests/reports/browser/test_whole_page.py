"""The page in a browser: whole without scripts, alive with them, readable on any screen, and nothing leaves it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from page_in_browser import page_width, wcag_violations

from moebench.reports.report import Report
from moebench.reports.web.embedded import embedded
from moebench.results.record import Record
from moebench.results.record.reproduction import Reproduction

if TYPE_CHECKING:
    from playwright.sync_api import Page

Open = Callable[..., "Page"]

WIDTHS = (390, 1440)


@pytest.mark.parametrize(("scheme", "width"), [("light", 390), ("dark", 1440)])
def test_contrast_and_names_meet_wcag_aa(opened: Open, short: Path, scheme: str, width: int) -> None:
    page = opened(short, width=width, color_scheme=scheme)
    page.locator("details:not(.fold)").evaluate_all("(all) => all.forEach((one) => (one.open = true))")
    assert wcag_violations(page) == []
    page.locator("a[href='#record-0']").click()
    page.get_by_text('"schema_version": 2').wait_for()
    assert wcag_violations(page) == []


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("scripts", [True, False])
def test_no_screen_is_too_narrow(opened: Open, width: int, *, scripts: bool) -> None:
    page = opened(width=width, java_script_enabled=scripts)
    page.locator("details:not(.fold) > summary").first.click()
    assert page_width(page) == width


def test_figures_are_in_sight_on_a_phone(opened: Open) -> None:
    page = opened(width=390)
    for heading in page.locator("table.trials:visible thead th:has-text('median')").all():
        box = heading.bounding_box()
        assert box is not None
        assert box["x"] < 390


def test_without_scripts_every_answer_plot_and_row_is_there(opened: Open, sweep: list[Record]) -> None:
    page = opened(java_script_enabled=False)
    report = Report(sweep)
    sections = page.locator("main > section")
    assert sections.count() == len(report.sections) + 1, "and the hostile one"
    for number, section in enumerate(report.sections):
        shown = sections.nth(number)
        assert shown.locator(".answer").is_visible()
        assert shown.locator(".panel svg").first.is_visible()
        for fold in shown.locator("details:not(.fold)").all():
            fold.locator("summary").first.click()
        rows = shown.locator("table.trials > tbody > tr")
        assert rows.count() == len(section.rows)
        assert rows.first.is_visible()
        assert rows.last.is_visible()
        assert shown.locator("button, input, select").count() == 0, "controls that would do nothing"


def test_every_picture_has_alternative_text(opened: Open) -> None:
    for scripts in (True, False):
        page = opened(java_script_enabled=scripts)
        pictures = page.locator("svg, img, canvas")
        assert pictures.count() > 10
        told = page.locator("[aria-label] svg, svg[aria-label], svg[aria-hidden=true], img[alt]")
        assert told.count() == pictures.count()


def test_hostile_names_are_text(opened: Open) -> None:
    page = opened()
    section = page.locator("main > section").last
    assert "<script>window.hit=1</script>" in section.locator("h2").inner_text()
    assert page.locator("script:not([type='application/json'])").count() == 1
    section.locator("th a").first.click()
    raw = page.locator("dialog pre")
    raw.get_by_text("schema_version").wait_for()
    shown = raw.inner_text()
    assert "<script>window.hit=1</script>" in shown
    assert r"\u2028\u202e\u0000\u001b" in shown, "what does not print is escaped"


def test_print_shows_what_is_folded(opened: Open) -> None:
    page = opened(java_script_enabled=False)
    fold = page.locator("details:not(.fold)").first
    row = fold.locator("tbody tr").first
    assert not row.is_visible()
    page.emulate_media(media="print")
    assert row.is_visible()


def test_paper_is_wide_enough(opened: Open) -> None:
    page = opened(width=720)  # A4 with margins, at 96 pixels an inch
    page.emulate_media(media="print")
    for name, section in ((one.get_attribute("id"), one) for one in page.locator("main > section").all()[:-1]):
        assert section.evaluate("(section) => section.scrollWidth") <= 720, name


def test_no_records_are_said_on_a_page_that_works(opened: Open, tmp_path: Path) -> None:
    page = opened(Report([], ["a.jsonl:1: not a record"]).write(tmp_path / "r.html"))
    assert page.get_by_text("No records.").is_visible()
    assert page.get_by_text("a.jsonl:1: not a record").is_visible()


def test_records_that_are_not_in_the_page_are_said_to_be_elsewhere(
    opened: Open, suites: dict[str, list[Record]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("moebench.reports.web.html_page.embedded", partial(embedded, most=0))
    page = opened(Report(suites["capacity"]).write(tmp_path / "r.html"))
    assert page.get_by_text("would make it too large").first.is_visible()
    page.locator("a[href='#record-0']").click()
    dialog = page.get_by_role("dialog")
    assert "see the file that it was made from" in dialog.inner_text()
    assert "median" in dialog.inner_text(), "what the table says is there"


def test_the_command_of_a_suite_is_on_the_page(opened: Open, suites: dict[str, list[Record]], tmp_path: Path) -> None:
    again = Reproduction(("moebench run capacity --load '<b>'",), "As it was.")
    report = Report(suites["capacity"], reproduction=lambda _: again)
    page = opened(report.write(tmp_path / "r.html"), width=390)
    assert page.locator(".command").inner_text() == "moebench run capacity --load '<b>'"
    assert page.get_by_text("As it was.").is_visible()
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    assert "moebench run capacity --load '<b>'" in report.write(tmp_path / "r.md").read_text(encoding="utf-8")
