"""Tables of the page are sorted and filtered, and lead to raw records, by mouse and by keyboard alike."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from moebench.results.record import Record

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

Open = Callable[..., "Page"]


def _table(page: Page, suite: str = "Trials of parallel") -> Locator:
    return page.get_by_role("region", name=suite).locator("table")


def _column(table: Locator, heading: str) -> list[str]:
    texts: list[str] = table.evaluate(
        """(table, heading) => {
          const at = [...table.tHead.rows[0].cells].findIndex((cell) => cell.dataset.heading === heading);
          return [...table.tBodies[0].rows].filter((row) => !row.hidden)
            .map((row) => row.cells[at]?.colSpan === 1 ? row.cells[at].textContent : "–");
        }""",
        heading,
    )
    return texts


def _number(text: str) -> float:
    return float(text.replace("\u202f", ""))


@pytest.mark.parametrize("by", ["mouse", "keyboard"])
def test_a_heading_sorts_its_column_and_what_is_missing_stays_last(opened: Open, by: str) -> None:
    page = opened()
    table = _table(page, "Trials of peers")
    heading = table.locator("th[data-heading='median (ms)']")
    before = _column(table, "median (ms)")

    def press() -> list[str]:
        button = heading.get_by_role("button")
        if by == "mouse":
            button.click()
        else:
            button.focus()
            page.keyboard.press("Enter")
        return _column(table, "median (ms)")

    assert heading.get_attribute("aria-sort") is None
    ascending = press()
    assert heading.get_attribute("aria-sort") == "ascending"
    assert list(map(_number, ascending)) == sorted(map(_number, before)) != list(map(_number, before))
    descending = press()
    assert heading.get_attribute("aria-sort") == "descending"
    assert list(map(_number, descending)) == sorted(map(_number, before), reverse=True)
    assert press() == before
    assert heading.get_attribute("aria-sort") is None


def test_trials_without_a_time_are_last_in_both_directions(opened: Open) -> None:
    page = opened()
    table = _table(page)
    button = table.locator("th[data-heading='median (ms)']").get_by_role("button")
    for _ in range(2):
        button.click()
        shown = _column(table, "median (ms)")
        first = shown.index("–")
        assert first > 0
        assert set(shown[first:]) == {"–"}


@pytest.mark.parametrize("kernel", ["triton_grouped", "padded"])
def test_medians_are_sorted_as_numbers_before_those_that_failed(opened: Open, kernel: str) -> None:
    page = opened()
    table = _table(page, "Medians of tokens")
    heading = table.locator(f"th[data-heading='{kernel}']")
    column = heading.evaluate("(heading) => heading.cellIndex")
    cells = table.locator(f"tbody tr > :nth-child({column + 1})")
    for sign in (1, -1):
        heading.get_by_role("button").click()
        texts = cells.all_inner_texts()
        last = [text.split()[-1] for text in texts]  # a rank may stand before
        assert any(text.split()[0] in ("fastest", "tied", "out") for text in texts)
        medians = [sign * _number(text) for text in last if text[0].isdigit()]
        assert medians == sorted(medians)
        assert all(text[0].isalpha() for text in last[len(medians) :])


def test_words_are_sorted_as_words_and_equal_ones_stay_in_order(opened: Open) -> None:
    page = opened()
    table = _table(page, "Trials of peers")
    table.locator("th[data-heading='median (ms)']").get_by_role("button").click()
    table.locator("th[data-heading='kernel']").get_by_role("button").click()
    names = [name.split()[0] for name in _column(table, "kernel")]
    assert names == sorted(names)


def test_rows_are_filtered_by_words_and_by_outcome(opened: Open, suites: dict[str, list[Record]]) -> None:
    page = opened()
    everything = len(suites["parallel"])
    section = page.locator("main > section", has=_table(page))
    words, outcome = section.get_by_label("Rows with"), section.get_by_label("Outcome")
    count = section.get_by_role("status")
    assert count.text_content() == f"{everything} of {everything} shown"
    outcome.select_option("timeout")
    assert count.text_content() == f"2 of {everything} shown"
    assert all("timeout" in name for name in _column(_table(page), "kernel"))
    words.focus()
    page.keyboard.type("KERNEL_passed")
    assert count.text_content() == f"0 of {everything} shown"
    outcome.focus()
    page.keyboard.press("Home")
    assert count.text_content() == f"2 of {everything} shown"
    words.fill("")
    assert count.text_content() == f"{everything} of {everything} shown"


@pytest.mark.parametrize("by", ["mouse", "keyboard"])
def test_a_kernel_of_a_row_opens_its_record_and_escape_leads_back(opened: Open, sweep: list[Record], by: str) -> None:
    page = opened()
    link = _table(page).locator("th a").first
    if by == "mouse":
        link.click()
    else:
        link.focus()
        page.keyboard.press("Enter")
    dialog = page.get_by_role("dialog")
    dialog.get_by_text("schema_version").wait_for()
    number = int(page.url.rpartition("#record-")[2])
    shown = json.loads(dialog.locator("pre").inner_text())
    assert shown == json.loads(sweep[number].model_dump_json())
    assert sweep[number].kernel in dialog.get_by_role("heading").inner_text()
    facts = dialog.locator("dl").first.inner_text()
    assert "median" in facts
    assert " ms" in facts
    assert "of bound" in facts
    page.keyboard.press("Escape")
    assert not dialog.is_visible()
    assert link.evaluate("(link) => link === document.activeElement")
    assert "#" not in page.url


def test_an_address_opens_a_record(opened: Open, sweep: list[Record]) -> None:
    last = len(sweep) - 1
    page = opened(fragment=f"#record-{last}")
    page.get_by_role("dialog").get_by_text("schema_version").wait_for()
    assert json.loads(page.locator("dialog pre").inner_text())["kernel"] == sweep[last].kernel


def test_a_click_beside_the_dialog_closes_it_and_one_on_its_edge_does_not(opened: Open) -> None:
    page = opened(fragment="#record-0")
    dialog = page.get_by_role("dialog")
    dialog.get_by_text("schema_version").wait_for()
    dialog.click(position={"x": 6, "y": 200})
    assert dialog.is_visible()
    page.mouse.click(3, 3)
    dialog.wait_for(state="hidden")


def test_an_address_of_no_record_opens_nothing(opened: Open) -> None:
    page = opened(fragment="#record-99999")
    assert not page.get_by_role("dialog").is_visible()
