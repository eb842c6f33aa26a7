"""JSON for machines: every point with its kernels' measures, the ratios between them, and what could not be read."""

from __future__ import annotations

import json
from pathlib import Path

from ..points import document
from ..report import Report, ReportFormat


def _write(report: Report, path: Path) -> None:
    path.write_text(json.dumps(document(report), indent=2), encoding="utf-8")


report_format = ReportFormat(suffix=".json", write=_write)
