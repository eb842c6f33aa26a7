"""`moebench report`: the pages of records, or their numbers in another format."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..errors import BAD_ANSWER, refuse, user_errors
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
    compared: Annotated[
        bool, typer.Option("--compare", help="Show two files side by side, the old one first, point by point.")
    ] = False,
    price: Price = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the points and ratios as JSON instead.")] = False,
) -> None:
    """Write the report of one or several files of records, or the comparison of two.

    Exit code 1 means that there were no records, which the page says.
    """
    with user_errors():
        files = [Path("/dev/stdin") if path == Path("-") else path for path in files]
        if output is None and not as_json and _has_no_folder(files[0]):
            refuse(f"{files[0]} has no place for pages beside it: give --output")
        if compared and price is not None:
            refuse(f"--price {price:g}: a comparison has no costs: leave it out, or report each file")
        if compared:
            _compare(files, output, as_json=as_json)
        else:
            _report(files, output, price, as_json=as_json)


def _has_no_folder(path: Path) -> bool:
    """Return whether a file is a pipe or a device, beside which no page belongs."""
    try:
        return path.exists() and not path.is_file()
    except OSError:
        return False  # whoever reads it will say why that fails


def _report(files: list[Path], output: Path | None, price: float | None, *, as_json: bool) -> None:
    from ...kernels.catalog import KERNELS
    from ...reports.report import Report, format_of
    from ...results.record.prediction import holds_predictions, read
    from ...results.record.store import load_all
    from ...suites.repetition import reproduction

    outputs = [] if as_json else _outputs(files, output, files[0].stem)
    for path in outputs:
        format_of(path)
    predicted = [path for path in files if holds_predictions(path)]
    loaded = load_all(path for path in files if path not in predicted)
    predictions = [one for path in predicted for one in read(path)]
    for problem in loaded.problems:
        complain(problem)
    if not loaded.records and len(predicted) == len(files):
        refuse(f"{', '.join(map(str, files))}: predictions are drawn beside records: give the file of these too")
    found = Report(loaded.records, loaded.problems, predictions, price, KERNELS.names(), reproduction)
    if as_json:
        from ...reports.points import document

        say_json(document(found))
    for path in outputs:
        say(f"report: {found.write(path)}")
    if not loaded.records:
        complain(f"no records in {', '.join(map(str, files))}; `moebench run` makes some")
        raise typer.Exit(BAD_ANSWER)


def _compare(files: list[Path], output: Path | None, *, as_json: bool) -> None:
    from ...reports.comparisons.comparison import ComparedSide, SideBySide
    from ...reports.comparisons.comparison_page import ComparisonPage, refuse_other_formats
    from ...reports.numbers import plain
    from ...results.record.store import load

    if len(files) != 2:
        refuse(f"--compare takes two files, the old one first; {len(files)} given")
    outputs = [] if as_json else _outputs(files, output, f"{files[0].stem}-against-{files[1].stem}")
    for path in outputs:
        refuse_other_formats(path)

    alike = files[0].stem == files[1].stem

    def side(path: Path) -> ComparedSide:
        loaded = load(path)
        for problem in loaded.problems:
            complain(problem)
        if not loaded.records:
            refuse(f"no records in {path}; `moebench run` makes some")
        return ComparedSide(name=plain(str(path) if alike else path.stem), records=loaded.records)

    old, new = map(side, files)
    found = SideBySide(old, new)
    if as_json:
        say_json(found.plain())
        return
    page = ComparisonPage(found)
    for path in outputs:
        say(f"comparison: {page.write(path)}")
    say(found.sentence)
    if found.remedy:
        say(str(found.remedy))


def _outputs(files: list[Path], output: Path | None, stem: str) -> list[Path]:
    """Return the files to write, which have a place and are not among those that are read."""
    from ...results.record.file_content import FileContent, refuse_no_place, refuse_to_replace

    outputs = [output] if output else [files[0].with_name(f"{stem}{suffix}") for suffix in (".html", ".md")]
    for path in outputs:
        refuse_no_place(path)
        refuse_to_replace(path, FileContent.other, files)
    return outputs
