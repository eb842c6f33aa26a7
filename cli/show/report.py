"""`moebench report`: the pages of records, or their numbers in another format."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..errors import refuse, user_errors
from ..price import Price
from ..screen import complain, say, say_json


def report(
    files: Annotated[
        list[Path],
        typer.Argument(
            help="Files that `moebench run` wrote, and `moebench predict` beside them; - for standard input.",
            show_default=False,
        ),
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="A file to write, whose suffix names the format: .html, .md, .csv, .parquet or .json.",
            show_default="both pages, beside the first file",
        ),
    ] = None,
    price: Price = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the points and ratios as JSON instead.")] = False,
) -> None:
    """Write the report of one or several files of records."""
    with user_errors():
        from ...reports.report import Report
        from ...results.record.file_content import FileContent, refuse_to_replace
        from ...results.record.prediction import holds_predictions, read
        from ...results.record.store import load_all

        files = [Path("/dev/stdin") if path == Path("-") else path for path in files]
        outputs = [output] if output else [files[0].with_suffix(suffix) for suffix in (".html", ".md")]
        if output is None and not as_json and files[0].exists() and not files[0].is_file():
            refuse(f"{files[0]} has no place for pages beside it: give --output")
        for path in () if as_json else outputs:
            refuse_to_replace(path, FileContent.other, files)
        predicted = [path for path in files if holds_predictions(path)]
        loaded = load_all(path for path in files if path not in predicted)
        predictions = [one for path in predicted for one in read(path)]
        for problem in loaded.problems:
            complain(problem)
        if not loaded.records and len(predicted) == len(files):
            refuse(f"{', '.join(map(str, files))}: predictions are drawn beside records: give the file of these too")
        if not loaded.records:
            refuse(f"no records in {', '.join(map(str, files))}; `moebench run` makes some")
        found = Report(loaded.records, loaded.problems, predictions, price)
        if as_json:
            from ...reports.points import document

            say_json(document(found))
            return
        for path in outputs:
            say(f"report: {found.write(path)}")
