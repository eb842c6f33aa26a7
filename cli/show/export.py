"""`moebench export`: records in the files of other tools."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..errors import user_errors
from ..screen import complain, say


def export(
    files: Annotated[list[Path], typer.Argument(help="Files that `moebench run` wrote.", show_default=False)],
    output: Annotated[Path, typer.Option("--output", "-o", help="The file to write.", show_default=False)],
    form: Annotated[
        str, typer.Option("--format", metavar="NAME", help="The format; `moebench list formats` names them all.")
    ] = "pytest-benchmark",
) -> None:
    """Write records in the format of another tool.

    What pytest-benchmark writes is read by its `compare`, and by github-action-benchmark with `tool: pytest`. The
    benchmarks have the names of those that `pytest suites` measures.
    """
    with user_errors():
        from ...reports.report import Report
        from ...results.record.file_content import FileContent, refuse_to_replace
        from ...results.record.store import load_all

        refuse_to_replace(output, FileContent.other, files)
        loaded = load_all(files)
        for problem in loaded.problems:
            complain(problem)
        Report(loaded.records, loaded.problems).write(output, form.replace("-", "_"))
    left_out = sum(record.timing is None for record in loaded.records)
    note = f", of which {left_out} did not pass" if left_out else ""
    say(f"{form}: {output}, {len(loaded.records)} records{note}")
