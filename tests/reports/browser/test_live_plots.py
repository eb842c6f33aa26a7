"""Marks of a plot say what they are and open their record, a legend chooses series, and a plot changes its measure."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from moebench.reports.report import Report
from moebench.results.record import Record

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

Make = Callable[..., Record]
Open = Callable[..., "Page"]

SUITE = 1  # of the long page: one of capacity factors, whose first plot has a choice of measure


def _figure(page: Page) -> Locator:
    return page.locator("main > section").nth(SUITE).locator("figure").first


def _mark(page: Page, series: str) -> Locator:
    """Return the first mark of a series."""
    section = page.locator("main > section").nth(SUITE)
    key = section.locator("button.key", has_text=series).get_attribute("data-key")
    return _figure(page).locator(f"[data-series='{key}'][data-records] use").first


def _records(mark: Locator) -> list[int]:
    found = mark.evaluate("(mark) => mark.closest('[data-records]').dataset.records")
    return [int(number) for number in found.split()]


def test_pointing_at_a_mark_says_what_it_is(opened: Open, sweep: list[Record]) -> None:
    page = opened()
    mark = _mark(page, "padded")
    record = sweep[_records(mark)[0]]
    mark.hover(force=True)
    tip = page.get_by_role("tooltip")
    tip.wait_for()
    text = tip.inner_text()
    assert record.kernel == "padded"
    assert text.startswith("padded")
    for said in ("median", " ms", "95 % interval", "of bound", " %", "capacity factor"):
        assert said in text
    box = tip.bounding_box()
    assert box is not None
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= 1440
    page.keyboard.press("Escape")
    assert not tip.is_visible()
    mark.hover(force=True)
    tip.wait_for()
    page.mouse.move(2, 2)
    tip.wait_for(state="hidden")


def test_the_configuration_of_a_mark_is_said_whole(opened: Open, make: Make, tmp_path: Path) -> None:
    records = [make("a", x=float(x), config={"block": 64, "nested": {"on": True}}) for x in (1, 2, 3)]
    records += [make("b", x=float(x), config={"block": 16 * x}, ms=9.0) for x in (1, 2, 3)]
    page = opened(Report(records).write(tmp_path / "r.html"))
    page.locator("[data-records] use").first.hover(force=True)
    tip = page.get_by_role("tooltip")
    tip.get_by_text('nested={"on":true}').wait_for()
    page.locator("[data-records='3 4 5'] use").first.hover(force=True)
    tip.get_by_text("block=16").first.wait_for()
    page.wait_for_timeout(100)  # for what follows from the record, which the page has read by now
    assert tip.inner_text().count("block=16") == 1, "what the row says whole is said once"
    page.keyboard.press("Escape")


def test_a_click_on_a_mark_opens_its_record(opened: Open, sweep: list[Record]) -> None:
    page = opened()
    mark = _mark(page, "scatter")
    number = _records(mark)[0]
    mark.click(force=True)
    dialog = page.get_by_role("dialog")
    dialog.get_by_text("schema_version").wait_for()
    assert json.loads(dialog.locator("pre").inner_text()) == json.loads(sweep[number].model_dump_json())
    page.keyboard.press("Escape")
    assert mark.evaluate("(mark) => mark === document.activeElement")


def test_a_plot_is_one_stop_and_arrows_lead_from_mark_to_mark(opened: Open, sweep: list[Record]) -> None:
    page = opened()
    panel = _figure(page).locator(".panel").first
    stops = panel.locator("[tabindex='0']")
    assert stops.count() == 1
    stops.focus()
    tip = page.get_by_role("tooltip")
    tip.wait_for()
    seen = [tip.inner_text()]
    for key in ("ArrowRight", "ArrowRight", "ArrowDown", "ArrowUp", "End", "Home"):
        page.keyboard.press(key)
        assert stops.count() == 1
        assert stops.evaluate("(mark) => mark === document.activeElement")
        assert tip.is_visible()
        seen.append(tip.inner_text())
        label = stops.get_attribute("aria-label") or ""
        assert label.split(":")[0].split()[0] in seen[-1], "what is heard is what is seen"
    kernels = [text.split()[0] for text in seen]
    assert kernels[0] == kernels[1] == kernels[2] != kernels[3]
    assert len(set(seen[:4])) == 4
    assert seen[-1] == seen[0]
    page.keyboard.press("Enter")
    page.get_by_role("dialog").get_by_text("schema_version").wait_for()
    shown = json.loads(page.locator("dialog pre").inner_text())
    assert shown["kernel"] == kernels[0]
    assert shown["kernel"] in {record.kernel for record in sweep}


@pytest.mark.parametrize("by", ["mouse", "keyboard"])
def test_a_legend_entry_shows_its_series_alone_in_all_plots(opened: Open, by: str) -> None:
    page = opened()
    legend = page.locator("main > section").nth(SUITE).locator(".keys")

    def press(name: str) -> None:
        button = legend.get_by_role("button", name=name)
        if by == "mouse":
            button.click()
        else:
            button.focus()
            page.keyboard.press("Space")

    def shown() -> set[str]:
        names: list[str] = page.evaluate(
            """() => [...document.querySelectorAll(".panel [data-series]")]
                 .filter((group) => getComputedStyle(group).visibility === "visible")
                 .map((group) => group.dataset.series)"""
        )
        return set(names)

    everything = shown()
    assert len(everything) > 4
    press("padded")
    key = legend.get_by_role("button", name="padded").get_attribute("data-key")
    assert shown() == {key}
    pressed = page.locator("button.key[aria-pressed='true']")
    assert pressed.count() > 1, "the legends of all suites that have it"
    assert set(pressed.all_inner_texts()) == {"padded"}
    press("scatter")
    assert len(shown()) == 2
    press("padded")
    press("scatter")
    assert shown() == everything
    press("padded")
    press("Show all")
    assert shown() == everything
    assert not legend.get_by_role("button", name="Show all").is_visible()


def test_the_keyboard_reaches_plots_of_which_the_first_series_are_hidden(opened: Open) -> None:
    page = opened()
    page.locator("main > section").nth(SUITE).locator("button.key").last.click()
    stop = _figure(page).locator(".panel [tabindex='0']")
    stop.focus()
    assert stop.evaluate("(mark) => mark === document.activeElement")
    tip = page.get_by_role("tooltip")
    tip.wait_for()
    key = page.locator("main > section").nth(SUITE).locator("button.key").last
    assert tip.inner_text().startswith(key.inner_text())
    page.keyboard.press("Escape")


def test_a_measure_is_chosen_and_its_plot_is_alive(opened: Open) -> None:
    page = opened()
    figure = _figure(page)
    choice = figure.get_by_label("Measure")
    before = figure.locator(".panels").inner_text()
    names = choice.locator("option").all_inner_texts()
    assert len(names) > 2
    assert names[0] == "median (ms)"
    page.locator("main > section").nth(SUITE).get_by_role("button", name="padded").click()
    choice.focus()
    page.keyboard.press("End")
    figure.locator(f"text={names[-1].split(' (')[0]}").first.wait_for()
    assert figure.locator(".panels").inner_text() != before
    hidden = figure.locator("[data-series]:not(.chosen)").first
    assert hidden.evaluate("(group) => getComputedStyle(group).visibility") == "hidden", "the choice of series stays"
    mark = _mark(page, "padded")
    mark.hover(force=True)
    tip = page.get_by_role("tooltip")
    tip.wait_for()
    assert names[-1].split(" (")[0] in tip.inner_text()
    page.keyboard.press("Escape")
    choice.select_option(index=0)
    assert figure.locator(".panels").inner_text() == before
