"""SVGs of plots inside a page: in the page's colours, with ids of their own and without a style attribute.

A page whose policy allows no inline style needs every one of them in its stylesheet; a `PlotStyles` collects them.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from .palette import ROLES

_TAG: Final = re.compile(r"<[^>]+>")
_STYLE: Final = re.compile(r' style="([^"]*)"')
_CLASS: Final = re.compile(r' class="([^"]*)"')
_SHEET: Final = re.compile(r"<style[^>]*>(.*?)</style>", re.DOTALL)
_SIZE: Final = re.compile(r' (?:width|height)="[\d.]+pt"')
_IDS: Final = re.compile(r'(\bid="|url\(#|href="#)')
_COLOURS: Final = re.compile("|".join(ROLES), re.IGNORECASE)
_SHEET_OF_MATPLOTLIB: Final = re.compile(r"\s*\*\{([^{}]*)\}\s*")


class PlotStyles:
    """Stylesheet of the plots of a page: one class for each distinct style of their elements."""

    def __init__(self) -> None:
        self._classes: dict[str, str] = {}
        self._everywhere: dict[str, None] = {}

    def inlined(self, svg: str, prefix: str) -> str:
        """Return an SVG to be put into a page: without a size, in the page's colours, its ids with a prefix.

        What its elements say about their style is added to `css`, and a class of that stands in its place.

        Raises:
            ValueError: when the SVG has a stylesheet with another rule than one of all elements.
        """

        def tag(match: re.Match[str]) -> str:
            text = _IDS.sub(rf"\g<1>{prefix}-", match[0])
            style = _STYLE.search(text)
            if style is None:
                return _themed(text)
            rest = text[: style.start()] + text[style.end() :]
            name = self._class(_themed(style[1]))
            held = _CLASS.search(rest)
            if held:
                return _themed(rest.replace(held[0], f' class="{held[1]} {name}"', 1))
            element = re.match(r"<[\w:]+", rest)
            end = element.end() if element else 0
            return _themed(f'{rest[:end]} class="{name}"{rest[end:]}')

        body = _SIZE.sub("", svg[svg.index("<svg") :], count=2)
        body = _SHEET.sub(self._sheet, body).replace("<defs></defs>", "")
        return _TAG.sub(tag, body).strip()

    @property
    def css(self) -> str:
        """Return the rules of all SVGs so far."""
        shared = "".join(f".plot *{{{text}}}\n" for text in self._everywhere)
        return shared + "".join(f".{name}{{{text}}}\n" for text, name in self._classes.items())

    def _class(self, style: str) -> str:
        return self._classes.setdefault(style, f"m{len(self._classes)}")

    def _sheet(self, match: re.Match[str]) -> str:
        rule = _SHEET_OF_MATPLOTLIB.fullmatch(match[1])
        if rule is None:
            raise ValueError(f"a stylesheet in an SVG must be one rule of all elements, as matplotlib's: {match[1]}")
        self._everywhere[rule[1].strip()] = None
        return ""


def _themed(text: str) -> str:
    """Return a tag or a style with the page's variables in place of the colours that dark mode replaces."""
    found: Callable[[re.Match[str]], str] = lambda match: f"var(--{ROLES[match[0].lower()]})"  # noqa: E731
    return _COLOURS.sub(found, text)
