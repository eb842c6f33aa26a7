"""`moebench export`: records in the files of other tools."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from ..errors import user_errors
from ..screen import complain, say

if TYPE_CHECKING:
    from ...results.record.store import Loaded

DATASET: Final = "flashinfer_trace"
"""The format that is a folder, and more than a report: it draws the routes of the records' problems again."""


def export(
    files: Annotated[list[Path], typer.Argument(help="Files that `moebench run` wrote.", show_default=False)],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="The file to write, or a new folder.", show_default=False)
    ],
    form: Annotated[
        str, typer.Option("--format", metavar="NAME", help="The format; `moebench list formats` names them all.")
    ] = "pytest-benchmark",
) -> None:
    """Write records in the format of another tool.

    What pytest-benchmark writes is read by its `compare`, and by github-action-benchmark with `tool: pytest`. The
    benchmarks have the names of those that `pytest suites` measures. flashinfer-trace is a folder with definitions,
    workloads, solutions and traces of MoE layers for FlashInfer-Bench.
    """
    with user_errors():
        from ...common.names import unknown
        from ...reports.report import FORMATS, Report
        from ...results.record.file_content import FileContent, refuse_to_replace
        from ...results.record.store import load_all

        name = form.replace("-", "_")
        if name not in (known := sorted([*FORMATS.names(), DATASET])):
            raise unknown("format", name, known)
        refuse_to_replace(output, FileContent.other, files)
        loaded = load_all(files)
        for problem in loaded.problems:
            complain(problem)
        if name == DATASET:
            say(f"{form}: {output}, {_write_dataset(loaded, output)}")
            return
        Report(loaded.records, loaded.problems).write(output, name)
    left_out = sum(record.timing is None for record in loaded.records)
    note = f", of which {left_out} did not pass" if left_out else ""
    say(f"{form}: {output}, {len(loaded.records)} records{note}")


def _write_dataset(loaded: Loaded, output: Path) -> str:
    """Write the dataset; return what is in it, and say what is not."""
    from ...integrations.flashinfer_trace.dataset_writer import dataset_of

    made = dataset_of(loaded.records)
    made.write(output)
    for reason, count in made.left_out.most_common():
        complain(f"left out: {count} of {reason}")
    counts = {folder: made.count(folder) for folder in ("definitions", "workloads", "solutions", "traces")}
    return ", ".join(f"{count} {folder[:-1] if count == 1 else folder}" for folder, count in counts.items())
