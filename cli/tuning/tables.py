"""`moebench tables`: tuned tables, and the files in which serving engines keep theirs."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import BAD_ANSWER, refuse, user_errors
from ..measure.run import Device
from ..screen import complain, say, say_json

if TYPE_CHECKING:
    from ...autotune.tables.engine import Engine
    from ...kernels.tuned.tuned_table import TunedTable

app = typer.Typer(no_args_is_help=True, help="Tuned tables: look at them, derive them, exchange them.")

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]
EngineOption = Annotated[
    str | None,
    typer.Option("--engine", help="The engine that the files are for.", show_default="by their folder"),
]


@app.command("show")
def show_(
    files: Annotated[
        list[Path] | None, typer.Argument(metavar="[TABLE]...", help="Tables.", show_default="all of the tuned folder")
    ] = None,
    device: Annotated[
        Device | None, typer.Option(help="The device to be valid on.", show_default="cuda if there is one")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show the tuned tables, what they cover, and which of them are stale and why."""
    with _file_errors():
        import torch

        from ...kernels.tuned.lookup import here
        from .table_views import summary_lines, summary_of

        tables = _tables(files)
        place = here(torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu")))
    summaries = [summary_of(table, place) for table in tables]
    if as_json:
        say_json([asdict(one) for one in summaries])
        return
    for one in summaries:
        say("\n".join(summary_lines(one)))
    if not summaries:
        say("there are no tuned tables: `moebench tune` makes some")


@app.command("build")
def build_(
    files: Annotated[list[Path], typer.Argument(metavar="RECORDS...", help="Files that `moebench tune` wrote.")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="DIR", help="Folder.", show_default="the tuned folder")
    ] = None,
) -> None:
    """Derive tuned tables from records."""
    with _file_errors():
        from ...autotune.tables.table_files import derive_files, write
        from ...kernels.tuned.lookup import folder

        derived = derive_files(files)
        for reason in derived.left_out:
            complain(reason)
        where = output or folder()
        if where is None:
            refuse("there is no folder for tuned tables: set MOEBENCH_TUNED or give an --output")
        if not derived.tables:
            refuse(f"{', '.join(map(str, files))}: no table can be derived; `moebench tune` makes records of that kind")
        for table in derived.tables:
            say(write(table, where))


@app.command("check")
def check_(
    table: Annotated[Path, typer.Argument(metavar="TABLE", help="A tuned table.", show_default=False)],
    records: Annotated[list[Path], typer.Argument(metavar="RECORDS...", help="The records it names.")],
) -> None:
    """Derive a table from its records again and compare; exit code 1 when it differs."""
    with _file_errors():
        from ...autotune.tables.table_files import check

        complaints = check(table, records)
    for complaint in complaints:
        complain(complaint)
    if complaints:
        raise typer.Exit(BAD_ANSWER)
    say(f"{table} is what its records say")


@app.command("export")
def export_(
    engine: Annotated[
        str,
        typer.Option(
            "--engine",
            "--for",
            metavar="ENGINE",
            help="The serving engine to write for, such as vllm.",
            show_default=False,
        ),
    ],
    files: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="[TABLE]...", help="Tables of the kernel vllm_fused_moe.", show_default="all of the tuned folder"
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="DIR", help="Folder to write to.", show_default="tuned-ENGINE"),
    ] = None,
    load: Annotated[
        str | None,
        typer.Option(help="The load that was tuned for, or robust.", show_default="robust, uniform or the only one"),
    ] = None,
    width: Annotated[
        int | None, typer.Option("--model-width", metavar="D", help="Only layers of this width.", show_default="all")
    ] = None,
    pin: Annotated[
        bool,
        typer.Option("--pin", help="Write the engine's own tiles for batches that do best with them."),
    ] = False,
) -> None:
    """Write tuned tables as files that a serving engine loads, and beside each a file about its origin."""
    with _file_errors():
        from ...autotune.tables.engine import ENGINES
        from ...autotune.tables.export import SAME_TILES, export
        from ...autotune.tables.tuned_tiles import tuned
        from .table_views import export_remarks

        target = ENGINES.load(engine)
        tables = _tables(files)
        fitting = tables if files else [table for table in tables if table.kernel == SAME_TILES]
        if not fitting:
            refuse(f"there is no tuned table of {SAME_TILES}, whose tiles the engines have: tune it first")
        layers = [one for table in fitting for one in tuned(table, load) if width in (None, one.D)]
        if not layers:
            refuse(f"no layer of width D = {width} was tuned")
        folder = output or Path(f"tuned-{engine}")
        for one in export(layers, target, pin=pin):
            say(one.write(folder))
            for remark in export_remarks(one, target):
                complain(remark)
    say(f"to use them: {target.usage(folder.absolute())}")


@app.command("import")
def import_(
    path: Annotated[Path, typer.Argument(help="A folder, or one file.", show_default=False)],
    engine: EngineOption = None,
    as_json: AsJson = False,
) -> None:
    """Show what is in the files of a serving engine, and which of it `moebench tune` could start from."""
    with _file_errors():
        from ...autotune.tables.engine import engine_of
        from ...autotune.tables.export import ABOUT
        from ...autotune.tables.serving_file import ServingError
        from .table_views import file_lines, plain_file

        named, found = _engine(engine), []
        for file in sorted(path.rglob("E=*.json")) if path.is_dir() else [path]:
            if file.name.endswith(ABOUT):
                continue
            try:
                reader = named or engine_of(file)
                found.append((file, reader, reader.load(file)))
            except ServingError as error:
                if not path.is_dir():
                    raise
                complain(f"{error}; it is left out")
        if not found:
            refuse(f"{path} holds no file of tuned tiles that can be read")
        if as_json:
            say_json([plain_file(*one) for one in found])
        else:
            say("\n".join(line for one in found for line in file_lines(*one)))


@app.command("lint")
def lint_(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A folder of an engine's files.", show_default=False)],
    triton: Annotated[
        str | None, typer.Option(metavar="X.Y.Z", help="The Triton that will run them.", show_default="the installed")
    ] = None,
    engine: EngineOption = None,
    as_json: AsJson = False,
) -> None:
    """Find what cannot work in the tuned files of a serving engine, without a GPU.

    Exit code 1 means that something cannot work as it is.
    """
    if triton is not None and not re.match(r"\d+\.\d+", triton):
        refuse(f"--triton {triton!r} is no version: give one such as 3.6.0")
    with _file_errors():
        from ...autotune.tables.lint import lint
        from ...autotune.tables.serving_file import Severity, severest
        from ...common.packages import installed_version

        linted = lint(folder, triton=triton or installed_version("triton"), engine=_engine(engine))
    if as_json:
        say_json({"files": linted.files, "findings": [asdict(one) for one in linted.findings]})
    else:
        for finding in linted.findings:
            say(f"{finding.severity}: {finding}")
        found = [finding.severity for finding in linted.findings]
        counts = [_counted(found.count(severity), severity) for severity in Severity]
        say(f"{_counted(linted.files, 'file')}: {', '.join(counts)}")
    if severest(linted.findings) is Severity.error:
        raise typer.Exit(BAD_ANSWER)


def _counted(number: int, word: str) -> str:
    return f"{number} {word}{'' if number == 1 else 's'}"


def _engine(name: str | None) -> Engine | None:
    from ...autotune.tables.engine import ENGINES

    return None if name is None else ENGINES.load(name)


def _tables(files: list[Path] | None) -> list[TunedTable]:
    """Return the tables in files, or all of the tuned folder."""
    from ...kernels.tuned.lookup import read, tables
    from ...kernels.tuned.tuned_table import InvalidTable

    if not files:
        return tables()
    found = []
    for file in files:
        try:
            found.append(read(file))
        except InvalidTable as error:
            refuse(f"{file}: {error}; give a table that `moebench tables build` made")
    return found


@contextmanager
def _file_errors() -> Iterator[None]:
    """Refuse what `user_errors` refuses, and files and folders that cannot be read or written."""
    with user_errors():
        try:
            yield
        except OSError as error:
            refuse(f"{error.filename}: {error.strerror}; give a folder that can be read and written")
