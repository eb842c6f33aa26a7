"""Drawing: the panels of one kind of plot of a section, with the words that stand for them."""

from __future__ import annotations

from dataclasses import dataclass

from ..numbers import counted


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """Panels of one kind: ``name`` is the kind as a slug, ``title`` the same in words.

    ``alt`` says in words what the panels show, computed from what was drawn, ``caption`` how to read them.
    ``measure`` is the heading of the measure in tables where a kind exists once for each, else empty. ``panels`` are
    SVGs. In each, groups of a kernel have its index in the styles as ``data-series``, and groups of marks the indices
    of the records behind the marks, in order, as ``data-records``. ``kernels`` are those of which something is shown,
    ``bound`` says whether a lower bound is.
    """

    name: str
    title: str
    alt: str
    caption: str
    panels: list[str]
    kernels: list[str]
    measure: str = ""
    bound: bool = False


def scale_words(panels: int, *, alike: bool) -> str:
    """Return the sentence of a caption that says whether its panels compare, empty for one panel."""
    if panels < 2:
        return ""
    return "All panels have the same scale." if alike else "Each panel has its own scale."


def left_out(count: int, what: str) -> str:
    """Return the sentence of a caption that counts what is not drawn, empty where all is."""
    if count < 1:
        return ""
    return f"{counted(count, f'more {what}')} {'is' if count == 1 else 'are'} in the table only."
