"""Drawings of many sections, made by several processes where that pays, while the page around them is written."""

from __future__ import annotations

import gc
import multiprocessing
import sys
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from typing import Final

from ...common.cores import usable_cores
from ..section import Section
from .drawing import Drawing
from .drawings import drawings
from .palette import Style

MANY: Final = 600
"""Rows of a report from which on it is drawn by several processes; fewer are drawn in less than two seconds."""

_inherited: tuple[Sequence[Section], Mapping[str, Style]] = ((), {})


def begin_drawings(sections: Sequence[Section], styles: Mapping[str, Style]) -> list[Future[list[Drawing]]]:
    """Begin to draw every section, and return the drawings to come; ``styles`` has a style for every kernel of any.

    Processes are forked, so that records are not copied to them, and draw while the caller goes on. A process with
    further threads cannot be forked safely, and draws at once.
    """
    rows = sum(len(section.rows) for section in sections)
    workers = min(len(usable_cores()), len(sections))
    alone = workers < 2 or rows < MANY or sys.platform != "linux" or threading.active_count() > 1
    if alone:
        return [_drawn(drawings(section, styles)) for section in sections]
    _inherit(sections, styles)
    gc.freeze()  # a collection in a child would copy every page of the parent's records
    pool = ProcessPoolExecutor(workers, multiprocessing.get_context("fork"))
    try:
        return [pool.submit(_drawings_of, order) for order in range(len(sections))]  # the first one forks all workers
    finally:
        pool.shutdown(wait=False)  # it ends after the last drawing
        gc.unfreeze()
        _inherit((), {})


def _drawn(found: list[Drawing]) -> Future[list[Drawing]]:
    future: Future[list[Drawing]] = Future()
    future.set_result(found)
    return future


def _inherit(sections: Sequence[Section], styles: Mapping[str, Style]) -> None:
    global _inherited  # noqa: PLW0603  # what forked processes find
    _inherited = (sections, styles)


def _drawings_of(order: int) -> list[Drawing]:
    sections, styles = _inherited
    return drawings(sections[order], styles)
