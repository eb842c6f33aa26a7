"""`moebench export`: records in the files of other tools."""

from __future__ import annotations

from enum import StrEnum
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Annotated

import typer

from ..errors import refuse, told


class Format(StrEnum):
    """Whose file."""

    pytest_benchmark = "pytest-benchmark"


def export(
    files: Annotated[list[Path], typer.Argument(help="Files that `moebench run` wrote.", show_default=False)],
    output: Annotated[Path, typer.Option("--output", "-o", help="The file to write.", show_default=False)],
    form: Annotated[Format, typer.Option("--format", help="Whose file it is.")] = Format.pytest_benchmark,
) -> None:
    """Write records that passed as the JSON of pytest-benchmark.

    `pytest-benchmark compare` reads it, and so does github-action-benchmark with `tool: pytest`. The benchmarks have
    the names of those that `pytest suites` measures.
    """
    with told():
        from ...common.packages import use
        from ...results.pytest_benchmark import document
        from ...results.record.store import load_all

        loaded = load_all(files)
        for problem in loaded.problems:
            typer.echo(f"moebench: {problem}", err=True)
        for module in ("pytest_benchmark", "pytest_benchmark.stats"):
            use(module, partial(import_module, module), remedy="pip install 'moebench[benchmark]'")
        text = document(loaded.records)
    try:
        output.write_text(text, encoding="utf-8")
    except OSError as error:
        refuse(f"{output}: {error.strerror}; give an --output that can be written")
    left_out = sum(record.timing is None for record in loaded.records)
    note = f"; {left_out} records that did not pass are left out" if left_out else ""
    typer.echo(f"{form.value}: {output}, {len(loaded.records) - left_out} benchmarks{note}")
