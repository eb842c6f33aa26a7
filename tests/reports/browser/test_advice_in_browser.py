"""The page of an advice in a browser: on any screen, in both themes, without scripts, and safe whatever it says."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from invented_advice import EVIL, advice
from page_in_browser import page_width, wcag_violations

from moebench.reports.advice.advice_page import write_page

if TYPE_CHECKING:
    from playwright.sync_api import Page

Open = Callable[..., "Page"]


@pytest.fixture
def page_of_advice(tmp_path: Path) -> Path:
    """Write a page with hostile names in it."""
    one = advice()
    option = one.phases[0].options[0].model_copy(update={"kernel": EVIL, "config": {EVIL: EVIL}, "basis": EVIL})
    phase = one.phases[0].model_copy(update={"options": [option, *one.phases[0].options[1:]]})
    changed = {"phases": [phase, one.phases[1]], "layer": EVIL, "device": EVIL, "notes": [EVIL], "command": EVIL}
    write_page(one.model_copy(update=changed), tmp_path / "advice.html")
    return tmp_path / "advice.html"


@pytest.mark.parametrize(("scheme", "width"), [("light", 390), ("dark", 1440)])
def test_contrast_and_names_meet_wcag_aa_and_no_screen_is_too_narrow(
    opened: Open, page_of_advice: Path, scheme: str, width: int
) -> None:
    page = opened(page_of_advice, width=width, color_scheme=scheme)
    assert wcag_violations(page) == []
    assert page_width(page) == width


def test_its_style_is_let_in_and_it_is_whole_without_scripts(opened: Open, page_of_advice: Path) -> None:
    page = opened(page_of_advice, java_script_enabled=False)
    assert page.locator("table").count() == 3
    box = page.locator("tr.mark .bar rect").first.bounding_box()
    assert box is not None
    assert box["width"] > 20
    assert box["height"] < 20
