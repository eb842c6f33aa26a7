"""Sections drawn by several processes give the drawings that one process gives."""

from __future__ import annotations

import sys
import threading
from collections.abc import Sequence

import pytest

from moebench.reports.plots import parallel_drawing
from moebench.reports.plots.parallel_drawing import all_drawings
from moebench.reports.report import Report
from moebench.results.record import Record


@pytest.mark.skipif(sys.platform != "linux", reason="processes are forked on Linux alone")
def test_processes_draw_what_one_process_draws(sweep: Sequence[Record], monkeypatch: pytest.MonkeyPatch) -> None:
    report = Report(sweep)
    monkeypatch.setattr(parallel_drawing, "usable_cores", lambda: (0, 1))
    monkeypatch.setattr(threading, "active_count", lambda: 1)
    together = all_drawings(report.sections, report.styles)
    monkeypatch.setattr(parallel_drawing, "MANY", len(sweep) + 1)
    assert together == all_drawings(report.sections, report.styles)
    assert [bool(drawn) for drawn in together] == [True] * len(report.sections)


def test_a_process_with_threads_is_not_forked(sweep: Sequence[Record], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threading, "active_count", lambda: 2)
    monkeypatch.setattr(parallel_drawing, "MANY", 0)
    monkeypatch.setattr(parallel_drawing, "ProcessPoolExecutor", lambda *_: pytest.fail("forked"))
    report = Report(sweep[:10])
    assert len(all_drawings(report.sections, report.styles)) == len(report.sections)
