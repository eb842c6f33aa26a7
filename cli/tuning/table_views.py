"""Text and JSON of `moebench tables`: what a tuned table covers, and what is in the file of a serving engine."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ...autotune.tables.engine import Engine
    from ...autotune.tables.export import Exported
    from ...autotune.tables.serving_file import ServingFile
    from ...kernels.tuned.tuned_table import TableEntry, TunedTable


@dataclass(frozen=True)
class TableSummary:
    """A tuned table in a few lines: what it covers, and why it is stale."""

    kernel: str
    device: str
    versions: str
    cache: str
    measured: str
    covers: list[str]
    stale: list[str]


def summary_of(table: TunedTable, here: Mapping[str, str | None]) -> TableSummary:
    """Return the summary of a table, for use where ``here`` is the environment."""
    from ...common.names import UnknownName
    from ...kernels.tuned.source_hash import source_hash

    try:
        stale = table.differs(source_hash(table.kernel), here)
    except UnknownName as error:
        stale = [str(error)]
    known = {name: table.environment[name] for name in ("driver", "torch", "triton") if table.environment[name]}
    if table.environment.get("device_type") == "cuda":
        known = {"driver": known.get("driver", "unknown"), **known}
    versions = [f"{name} {version}" for name, version in known.items()]
    return TableSummary(
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


def summary_lines(one: TableSummary) -> list[str]:
    """Return the lines about a table."""
    return [
        f"{one.kernel} on {one.device}, {one.versions}, caches {one.cache}, measured until {one.measured}",
        *(f"  {line}" for line in one.covers),
        f"  {'stale: ' + '; '.join(one.stale) if one.stale else 'valid here'}",
    ]


def plain_file(path: Path, engine: Engine, file: ServingFile) -> dict[str, object]:
    """Return the content of an engine's file for JSON."""
    from ...autotune.tables.starts import candidates, refusal

    return {
        "file": str(path),
        "engine": engine.name,
        **asdict(file.name),
        "triton": file.triton,
        "tiles": {M: dict(tiles) for M, tiles in file.configs.items()},
        "candidates": candidates(file),
        "refusal": refusal(file),
    }


def file_lines(path: Path, engine: Engine, file: ServingFile) -> list[str]:
    """Return the lines about an engine's file: its name, its tiles, and which of them a search could start from."""
    from ...autotune.tables.starts import candidates, refusal

    name, usable = file.name, candidates(file)
    version = f"Triton {file.triton}" if file.triton else "no Triton version"
    block = f", blocks of {name.block_shape[0]}×{name.block_shape[1]}" if name.block_shape else ""
    return [
        str(path),
        f"  {engine.label}: E = {name.E}, N = {name.N}, {name.device}, {name.dtype or '16-bit floats'}{block}"
        f"{', down projection' if name.down else ''}, {version}",
        *(
            f"  M = {M:<6} {', '.join(f'{word} {number}' for word, number in tiles.items())}"
            for M, tiles in file.configs.items()
        ),
        f"  {refusal(file) or f'{len(usable)} of {len(file.configs)} are configurations of vllm_fused_moe'}",
    ]


def export_remarks(one: Exported, engine: Engine) -> Iterator[str]:
    """Yield what a user has to know of an exported file: the batches that would not run the tiles that were tuned."""
    from ...autotune.tables.lint import DECODED
    from ...common.packages import is_installed

    package = engine.ships.partition("/")[0]
    if one.pinned is not None:
        listed = f"T = {', '.join(map(str, one.own))} and " if one.own else ""
        yield f"{listed}batches far from any tuned T have {engine.label}'s own tiles, by {one.pinned}"
        if not is_installed(package):
            yield (
                f"{package} is not installed here: should your version ship a {one.name}, its own tiles are those of "
                f"that file; export where {package} is installed, and they are pinned"
            )
        return
    if one.own:
        yield (
            f"for T = {', '.join(map(str, one.own))} {engine.label} chose best by itself, which a file has to spell "
            "out: they will take the tiles of the nearest T, unless you export with --pin"
        )
    if one.smallest > DECODED:
        yield (
            f"batches of 1 to {one.smallest - 1} tokens will take the tiles of T = {one.smallest}: tune small batches "
            f"too, --tokens 1,16,{one.smallest}, or export with --pin"
        )
