"""Drawings of many sections, made by several processes where that pays, while the page around them is written."""

from __future__ import annotations

import multiprocessing
import sys
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from typing import Final

from ...common.cores import usable_cores
from ..section import Section
from .drawing import Drawing
from .drawings import drawings, drawings_of, section_frames
from .palette import Style

MANY: Final = 600
"""Records of a report from which on it is drawn by several processes; fewer are drawn in less than two seconds."""


def begin_drawings(sections: Sequence[Section], styles: Mapping[str, Style]) -> list[Future[list[Drawing]]]:
    """Begin to draw every section, and return the drawings to come; ``styles`` has a style for every kernel of any.

    Processes are forked and draw while the caller goes on. They are sent the frames of a section, and never touch its
    records: a page of memory that a process touches is copied for it. The collector would touch them too, so the heap
    is to be frozen (`frozen_heap`). A process with further threads cannot be forked safely, and draws at once.
    """
    records = sum(len(section.records) for section in sections)
    workers = min(len(usable_cores()), len(sections))
    alone = workers < 2 or records < MANY or sys.platform != "linux" or threading.active_count() > 1
    if alone:
        return [_drawn(drawings(section, styles)) for section in sections]
    pool = ProcessPoolExecutor(workers, multiprocessing.get_context("fork"))
    try:
        return [_begin(pool, section, styles) for section in sections]  # the first one forks all workers
    finally:
        pool.shutdown(wait=False)  # it ends after the last drawing


def _begin(pool: ProcessPoolExecutor, section: Section, styles: Mapping[str, Style]) -> Future[list[Drawing]]:
    frames = section_frames(section)
    return pool.submit(drawings_of, frames, styles) if frames else _drawn([])


def _drawn(found: list[Drawing]) -> Future[list[Drawing]]:
    future: Future[list[Drawing]] = Future()
    future.set_result(found)
    return future
