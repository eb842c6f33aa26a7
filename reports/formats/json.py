"""JSON for machines: every point with its kernels' measures, the ratios between them, and what could not be read."""

from __future__ import annotations

import json
from pathlib import Path

from ...common.files import write_whole
from ..points import document
from ..report import Report, ReportFormat


def _write(report: Report, path: Path) -> None:
    write_whole(path, json.dumps(document(report), indent=2))


report_format = ReportFormat(suffix=".json", write=_write)
