"""Drawings of many sections, made by several processes where that pays."""

from __future__ import annotations

import gc
import multiprocessing
import sys
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import Final

from ...common.cores import usable_cores
from ..section import Section
from .drawing import Drawing
from .drawings import drawings
from .palette import Style

MANY: Final = 600
"""Rows of a report from which on it is drawn by several processes; fewer are drawn in less than two seconds."""

_inherited: tuple[Sequence[Section], Mapping[str, Style]] = ((), {})


def all_drawings(sections: Sequence[Section], styles: Mapping[str, Style]) -> list[list[Drawing]]:
    """Return the drawings of each section; ``styles`` has a style for every kernel of any.

    Processes are forked, so that records are not copied to them. A process with further threads cannot be forked
    safely, and draws alone.
    """
    rows = sum(len(section.rows) for section in sections)
    workers = min(len(usable_cores()), len(sections))
    alone = workers < 2 or rows < MANY or sys.platform != "linux" or threading.active_count() > 1
    if alone:
        return [drawings(section, styles) for section in sections]
    _inherit(sections, styles)
    gc.freeze()  # a collection in a child would copy every page of the parent's records
    try:
        with ProcessPoolExecutor(workers, multiprocessing.get_context("fork")) as pool:
            return list(pool.map(_drawings_of, range(len(sections))))
    finally:
        gc.unfreeze()
        _inherit((), {})


def _inherit(sections: Sequence[Section], styles: Mapping[str, Style]) -> None:
    global _inherited  # noqa: PLW0603  # what forked processes find
    _inherited = (sections, styles)


def _drawings_of(order: int) -> list[Drawing]:
    sections, styles = _inherited
    return drawings(sections[order], styles)
