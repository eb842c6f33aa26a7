"""Checks of a page in a browser: the rules of WCAG, and whether it fits a screen."""

from __future__ import annotations

from importlib import resources
from typing import TYPE_CHECKING, Any, Final

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Page

RULES: Final = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"]}


def wcag_violations(page: Page) -> list[str]:
    """Return what axe-core finds against WCAG 2.1 A and AA; skip the test where it is not installed."""
    pytest.importorskip("axe_playwright_python")
    page.evaluate(resources.files("axe_playwright_python").joinpath("axe.min.js").read_text(encoding="utf-8"))
    found: list[dict[str, Any]] = page.evaluate("(rules) => axe.run(document, rules)", RULES)["violations"]
    return [f"{one['id']}: {node['html'][:200]}" for one in found for node in one["nodes"]]


def page_width(page: Page) -> float:
    """Return the width in pixels that a page takes: more than the window's where something sticks out."""
    widest: float = page.evaluate("Math.max(document.documentElement.scrollWidth, document.body.scrollWidth)")
    return widest
