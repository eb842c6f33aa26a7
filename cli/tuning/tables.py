"""`moebench tables`: tuned tables, and the files in which serving engines keep theirs."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import BAD_ANSWER, refuse, told
from ..measure.run import Device

if TYPE_CHECKING:
    from ...autotune.tables.serving import Engine as Whose
    from ...autotune.tables.serving import ServingFile
    from ...kernels.tuned.tuned_table import TableEntry, TunedTable

app = typer.Typer(no_args_is_help=True, help="Tuned tables: look at them, derive them, exchange them.")


class Engine(StrEnum):
    """Serving engines whose files are known."""

    vllm = "vllm"
    sglang = "sglang"


AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]
EngineOption = Annotated[
    Engine | None,
    typer.Option("--engine", help="Whose files they are.", show_default="SGLang's inside triton_X_Y_Z, else vLLM's"),
]


@app.command("show")
def show_(
    files: Annotated[
        list[Path] | None, typer.Argument(metavar="[TABLE]...", help="Tables.", show_default="all of the tuned folder")
    ] = None,
    device: Annotated[
        Device | None, typer.Option(help="Where they should hold.", show_default="cuda if there is one")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show what tuned tables there are, what they cover, and which are stale and why."""
    with _told():
        import torch

        from ...kernels.tuned.lookup import here

        tables = _tables(files)
        place = here(torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu")))
    seen = [_seen(table, place) for table in tables]
    if as_json:
        typer.echo(json.dumps([asdict(one) for one in seen], indent=2))
        return
    for one in seen:
        typer.echo(f"{one.kernel} on {one.device}, {one.versions}, caches {one.cache}, measured until {one.measured}")
        for line in one.covers:
            typer.echo(f"  {line}")
        typer.echo(f"  {'stale: ' + '; '.join(one.stale) if one.stale else 'valid here'}")
    if not seen:
        typer.echo("there are no tuned tables: `moebench tune` makes some")


@dataclass(frozen=True)
class _Seen:
    """A table as `show` tells it."""

    kernel: str
    device: str
    versions: str
    cache: str
    measured: str
    covers: list[str]
    stale: list[str]


def _seen(table: TunedTable, here: Mapping[str, str | None]) -> _Seen:
    from ...common.names import UnknownName
    from ...kernels.tuned.source_hash import source_hash

    try:
        stale = table.differs(source_hash(table.kernel), here)
    except UnknownName as error:
        stale = [str(error)]
    versions = [
        f"{name} {table.environment[name]}" for name in ("driver", "torch", "triton") if table.environment[name]
    ]
    return _Seen(
        kernel=table.kernel,
        device=str(table.environment["device"]),
        versions=", ".join(versions),
        cache=table.cache,
        measured=table.measured[1],
        covers=[_covers(entry) for entry in table.entries],
        stale=stale,
    )


def _covers(entry: TableEntry) -> str:
    shape, tokens = entry.shape, [bucket.T for bucket in entry.buckets]
    tuned = sum(bucket.verdict == "tuned" for bucket in entry.buckets)
    rows = f"{entry.rows(tokens[0]):g} to {entry.rows(tokens[-1]):g} rows per expert"
    return (
        f"D={shape.D} F={shape.F} E={shape.E} K={shape.K} {shape.dtype} {shape.mode}, load {', '.join(entry.loads)}: "
        f"T = {', '.join(map(str, tokens))} ({rows}), {tuned} tuned, {len(tokens) - tuned} with the default kept"
    )


@app.command("build")
def build_(
    files: Annotated[list[Path], typer.Argument(metavar="RECORDS...", help="Files that `moebench tune` wrote.")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="DIR", help="Folder.", show_default="the tuned folder")
    ] = None,
) -> None:
    """Derive tuned tables from records."""
    with _told():
        from ...autotune.tables.build import derive_files, write
        from ...kernels.tuned.lookup import folder

        derived = derive_files(files)
        for reason in derived.left_out:
            typer.echo(f"moebench: {reason}", err=True)
        where = output or folder()
        if where is None:
            refuse("there is no folder for tuned tables: set MOEBENCH_TUNED or give an --output")
        if not derived.tables:
            refuse(f"{', '.join(map(str, files))}: no table can be derived; `moebench tune` makes records of that kind")
        for table in derived.tables:
            typer.echo(write(table, where))


@app.command("check")
def check_(
    table: Annotated[Path, typer.Argument(metavar="TABLE", help="A tuned table.", show_default=False)],
    records: Annotated[list[Path], typer.Argument(metavar="RECORDS...", help="The records it names.")],
) -> None:
    """See whether a table still says what its records say; exit code 1 when it does not."""
    with _told():
        from ...autotune.tables.build import check

        complaints = check(table, records)
    for complaint in complaints:
        typer.echo(f"moebench: {complaint}", err=True)
    if complaints:
        raise typer.Exit(BAD_ANSWER)
    typer.echo(f"{table} says what its records say")


@app.command("export")
def export_(
    form: Annotated[Engine, typer.Option("--format", help="The engine to write for.", show_default=False)],
    files: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="[TABLE]...", help="Tables of the kernel vllm_fused_moe.", show_default="all of the tuned folder"
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="DIR", help="Folder to write to.", show_default="tuned-vllm"),
    ] = None,
    load: Annotated[
        str | None,
        typer.Option(help="The load that was tuned for, or robust.", show_default="robust, uniform or the only one"),
    ] = None,
    width: Annotated[
        int | None, typer.Option("--model-width", metavar="D", help="Only layers of this width.", show_default="all")
    ] = None,
) -> None:
    """Write tuned tables as files that vLLM or SGLang loads, and beside each where it came from."""
    with _told():
        from ...autotune.tables.export import SAME_TILES, export
        from ...autotune.tables.serving import Engine as Whose
        from ...autotune.tables.tuned_tiles import tuned

        tables = _tables(files)
        fitting = tables if files else [table for table in tables if table.kernel == SAME_TILES]
        if not fitting:
            refuse(f"there is no tuned table of {SAME_TILES}, whose tiles the engines have: tune it first")
        layers = [one for table in fitting for one in tuned(table, load) if width in (None, one.D)]
        if not layers:
            refuse(f"no layer of width D = {width} was tuned")
        written = export(layers, Whose(form))
        folder = output or Path(f"tuned-{form}")
        for one in written:
            typer.echo(one.write(folder))
            if one.own:
                listed = ", ".join(map(str, one.own))
                typer.echo(
                    f"moebench: for T = {listed} {form} did best by itself, which a file cannot say: "
                    "they will take the tiles of the nearest T",
                    err=True,
                )
    _how_to_use(form, folder)


def _how_to_use(form: Engine, folder: Path) -> None:
    if form is Engine.vllm:
        typer.echo(f"to use them: VLLM_TUNED_CONFIG_FOLDER={folder.absolute()}")
    else:
        typer.echo(
            f"to use them: SGLANG_MOE_CONFIG_DIR={folder.absolute()}, which SGLang reads in place of its own folder"
        )


@app.command("import")
def import_(
    path: Annotated[Path, typer.Argument(help="A folder, or one file.", show_default=False)],
    engine: EngineOption = None,
    as_json: AsJson = False,
) -> None:
    """Show what is in the files of a serving engine, and which of it `moebench tune` could start from."""
    with _told():
        from ...autotune.tables.lint import engine_of
        from ...autotune.tables.serving import ABOUT, ServingError, load
        from ...autotune.tables.serving import Engine as Whose

        paths = sorted(path.rglob("E=*.json")) if path.is_dir() else [path]
        found = []
        for file in paths:
            if file.name.endswith(ABOUT):
                continue
            whose = Whose(engine) if engine else engine_of(file)
            try:
                found.append((file, whose, load(file, whose)))
            except ServingError as error:
                if not path.is_dir():
                    raise
                typer.echo(f"moebench: {error}; it is left out", err=True)
        if not found:
            refuse(f"{path} holds no file of tuned tiles that can be read")
        if as_json:
            typer.echo(json.dumps([_plain(*one) for one in found], indent=2))
        else:
            for one in found:
                _show_file(*one)


def _plain(path: Path, whose: Whose, file: ServingFile) -> dict[str, object]:
    from ...autotune.tables.starts import candidates, refusal

    return {
        "file": str(path),
        "engine": whose.value,
        **asdict(file.name),
        "triton": file.triton,
        "tiles": {M: dict(tiles) for M, tiles in file.configs.items()},
        "candidates": candidates(file),
        "refusal": refusal(file),
    }


def _show_file(path: Path, whose: Whose, file: ServingFile) -> None:
    from ...autotune.tables.starts import candidates, refusal

    name, usable = file.name, candidates(file)
    block = f", blocks of {name.block_shape[0]}×{name.block_shape[1]}" if name.block_shape else ""
    typer.echo(
        f"{path}\n  {whose.label}: E = {name.E}, N = {name.N}, {name.device}, {name.dtype or '16-bit floats'}{block}"
        f"{', down projection' if name.down else ''}, {f'Triton {file.triton}' if file.triton else 'no Triton version'}"
    )
    for M, tiles in file.configs.items():
        typer.echo(f"  M = {M:<6} {', '.join(f'{word} {number}' for word, number in tiles.items())}")
    why = refusal(file) or f"{len(usable)} of {len(file.configs)} are configurations of vllm_fused_moe"
    typer.echo(f"  {why}")


@app.command("lint")
def lint_(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A folder of an engine's files.", show_default=False)],
    triton: Annotated[
        str | None, typer.Option(metavar="X.Y.Z", help="The Triton that will run them.", show_default="the installed")
    ] = None,
    engine: EngineOption = None,
    as_json: AsJson = False,
) -> None:
    """Find what is wrong with the tuned files of a serving engine, without a GPU.

    Exit code 1 means that something cannot work as it stands.
    """
    with _told():
        from ...autotune.tables.lint import lint
        from ...autotune.tables.serving import Engine as Whose
        from ...autotune.tables.serving import Severity, severest

        linted = lint(folder, triton=triton or _installed_triton(), engine=Whose(engine) if engine else None)
    if as_json:
        typer.echo(json.dumps({"files": linted.files, "findings": [asdict(one) for one in linted.findings]}, indent=2))
    else:
        for finding in linted.findings:
            typer.echo(f"{finding.severity}: {finding}")
        counts = [
            f"{sum(finding.severity is severity for finding in linted.findings)} {severity}s" for severity in Severity
        ]
        typer.echo(f"{linted.files} files: {', '.join(counts)}")
    if severest(linted.findings) is Severity.error:
        raise typer.Exit(BAD_ANSWER)


def _installed_triton() -> str | None:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("triton")
    except PackageNotFoundError:
        return None


def _tables(files: list[Path] | None) -> list[TunedTable]:
    """The tables in files, or all of the tuned folder."""
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
def _told() -> Iterator[None]:
    """As `told`, and for folders that are named to be read or written."""
    with told():
        try:
            yield
        except OSError as error:
            refuse(f"{error.filename}: {error.strerror}; give a folder that can be read and written")
