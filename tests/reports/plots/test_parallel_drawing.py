"""Sections drawn by several processes give the drawings that one process gives."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest

from moebench.reports.plots import parallel_drawing
from moebench.reports.plots.drawing import Drawing
from moebench.reports.plots.parallel_drawing import begin_drawings
from moebench.reports.report import Report, ReportError
from moebench.results.record import Record


def _drawings(report: Report) -> list[list[Drawing]]:
    return [future.result() for future in begin_drawings(report.sections, report.styles)]


@pytest.mark.skipif(sys.platform != "linux", reason="processes are forked on Linux alone")
def test_processes_draw_what_one_process_draws(sweep: Sequence[Record], monkeypatch: pytest.MonkeyPatch) -> None:
    report = Report(sweep)
    monkeypatch.setattr(parallel_drawing, "usable_cores", lambda: (0, 1))
    monkeypatch.setattr(threading, "active_count", lambda: 1)
    together = _drawings(report)
    monkeypatch.setattr(parallel_drawing, "MANY", len(sweep) + 1)
    assert together == _drawings(report)
    assert [bool(drawn) for drawn in together] == [True] * len(report.sections)


@pytest.mark.skipif(sys.platform != "linux", reason="processes are forked on Linux alone")
def test_what_a_process_cannot_draw_is_raised_where_it_is_asked_for(
    sweep: Sequence[Record], monkeypatch: pytest.MonkeyPatch
) -> None:
    report = Report(sweep)
    monkeypatch.setattr(parallel_drawing, "usable_cores", lambda: (0, 1))
    monkeypatch.setattr(threading, "active_count", lambda: 1)
    monkeypatch.setattr(parallel_drawing, "MANY", 0)
    futures = begin_drawings(report.sections, {})  # no kernel has a style
    with pytest.raises(KeyError):
        futures[0].result(timeout=60)


class _Kill:
    """Styles that end the process that receives them."""

    def __reduce__(self) -> tuple[object, tuple[int]]:
        return os._exit, (9,)


@pytest.mark.skipif(sys.platform != "linux", reason="processes are forked on Linux alone")
def test_a_killed_process_is_said_in_a_line_and_the_page_that_was_there_stays(
    sweep: Sequence[Record], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parallel_drawing, "usable_cores", lambda: (0, 1))
    monkeypatch.setattr(threading, "active_count", lambda: 1)
    monkeypatch.setattr(parallel_drawing, "MANY", 0)
    monkeypatch.setattr(Report, "styles", _Kill())
    (tmp_path / "page.html").write_text("earlier")
    with pytest.raises(ReportError, match=r"page\.html: a process that drew plots was killed.*make room"):
        Report(sweep).write(tmp_path / "page.html")
    assert (tmp_path / "page.html").read_text() == "earlier"


def test_a_process_with_threads_is_not_forked(sweep: Sequence[Record], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threading, "active_count", lambda: 2)
    monkeypatch.setattr(parallel_drawing, "MANY", 0)
    monkeypatch.setattr(parallel_drawing, "ProcessPoolExecutor", lambda *_: pytest.fail("forked"))
    report = Report(sweep[:10])
    futures = begin_drawings(report.sections, report.styles)
    assert [future.done() for future in futures] == [True] * len(report.sections)
