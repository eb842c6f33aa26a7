"""`moebench report`: records in, a page out."""

from __future__ import annotations

import json
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Annotated

import typer

from ..errors import COULD_NOT, told


def report(
    files: Annotated[
        list[Path],
        typer.Argument(help="Files that `moebench run` wrote, and `moebench predict` beside them.", show_default=False),
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="A .html, .md, .csv or .parquet to write; by default both pages.",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the points and ratios as JSON instead.")] = False,
) -> None:
    """Make the report of one or several files of records."""
    with told():
        from ...results.record.prediction import holds_predictions, read
        from ...results.record.store import load_all

        predicted = [path for path in files if holds_predictions(path)]
        loaded = load_all(path for path in files if path not in predicted)
        predictions = [one for path in predicted for one in read(path)]
    for problem in loaded.problems:
        typer.echo(f"moebench: {problem}", err=True)
    if not loaded.records:
        typer.echo(f"moebench: no records in {', '.join(map(str, files))}; `moebench run` makes some", err=True)
        raise typer.Exit(COULD_NOT)
    if as_json:
        from ...reports.data import points

        typer.echo(json.dumps({"points": points(loaded.records), "problems": loaded.problems}, indent=2))
        return
    from ...common.packages import use
    from ...reports.frame import write_frame
    from ...reports.page import write_html, write_markdown

    pages = {".html": write_html, ".md": write_markdown}
    for path in [output] if output else [files[0].with_suffix(suffix) for suffix in pages]:
        if path.suffix in pages:
            written = pages[path.suffix](loaded.records, loaded.problems, path, predictions)
        elif path.suffix in (".csv", ".parquet"):
            if path.suffix == ".parquet":
                with told():
                    use("pyarrow", partial(import_module, "pyarrow.parquet"), remedy="pip install 'moebench[parquet]'")
            written = write_frame(loaded.records, path)
        else:
            typer.echo(f"moebench: {path}: give a name that ends in .html, .md, .csv or .parquet", err=True)
            raise typer.Exit(COULD_NOT)
        typer.echo(f"report: {written}")
