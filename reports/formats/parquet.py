"""Parquet: one row for each trial, for a notebook. Needs pyarrow."""

from __future__ import annotations

from functools import partial
from importlib import import_module
from pathlib import Path

from ...common.files import write_whole
from ...common.packages import use
from ..report import Report, ReportFormat
from ._frame import frame


def _write(report: Report, path: Path) -> None:
    use("pyarrow", partial(import_module, "pyarrow.parquet"), remedy="pip install 'moebench[parquet]'")
    write_whole(path, frame(report).to_parquet())


report_format = ReportFormat(suffix=".parquet", write=_write)
