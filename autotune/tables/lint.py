"""What is wrong with a folder of tuned tiles: found by reading, without a GPU and without the engine."""

from __future__ import annotations

import hashlib
import math
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

from ...kernels.hardware.gpus import gpu_named
from ...kernels.implementations._vllm_tiles import BLOCKS, shared_bytes
from ...kernels.problem.models import MODELS, Model
from .serving import ABOUT, Engine, Finding, Name, ServingError, ServingFile, Severity, Tiles, device_word, read

LADDER = (1, 2, 4, 8, 16, 24, 32, 48, 64, 96, 128, 256, 512, 1024, 1536, 2048, 3072, 4096)
"""Batch sizes that both engines' own tuners measure."""

# Bytes of an element of a row and of a weight, where tiles of them are known to lie in shared memory. Weights of four
# bits are unpacked on the way, and are not counted.
ELEMENTS: dict[str | None, tuple[int, int]] = {
    None: (2, 2),
    "float32": (4, 4),
    "fp8_w8a8": (1, 1),
    "int8_w8a8": (1, 1),
    "fp8_w8a16": (2, 1),
    "int8_w8a16": (2, 1),
    "int4_w4a16": (2, 0),
}
RINGS_ON_AMD = (3, 2)  # the Triton since which tiles lie in several buffers there
SHARDS = (1, 2, 4, 8, 16, 32)
USUAL_FLOP_PER_BYTE = 200.0
USUAL_ROUTES = 8
FEW_EXPERTS, FEW_ROUTES = 16, 2  # as in Mixtral
DEAR = 0.05  # what snapping may cost by the model before it is a warning


@dataclass(frozen=True)
class Linted:
    """How many files of tuned tiles there are, and what was found, the worst first."""

    files: int
    findings: list[Finding]


@dataclass(frozen=True)
class _Entry:
    path: Path
    file: str
    engine: Engine
    content: ServingFile

    def finding(self, severity: Severity, kind: str, sentence: str, remedy: str, M: int | None = None) -> Finding:
        return Finding(severity=severity, kind=kind, file=self.file, M=M, sentence=sentence, remedy=remedy)


def lint(folder: Path, *, triton: str | None = None, engine: Engine | None = None) -> Linted:
    """Everything wrong with the files of a folder and of those inside it.

    A file belongs to SGLang inside a folder triton_X_Y_Z, to vLLM elsewhere, or all to ``engine``. ``triton`` is the
    version that will run them.

    Raises:
        ServingError: when there is no such folder, or no file with the name of tuned tiles in it.
    """
    if not folder.is_dir():
        raise ServingError(
            f"{folder} is no folder: give one with files such as E=8,N=7168,device_name=NVIDIA_H200.json"
        )
    entries, findings, files = [], [], 0
    for path in sorted(folder.rglob("*.json")):
        file = str(path.relative_to(folder))
        if path.name.endswith(ABOUT):
            continue
        if not path.name.startswith("E="):
            findings.append(
                Finding(
                    severity=Severity.note,
                    kind="name",
                    file=file,
                    sentence="has another name than files of tuned tiles",
                    remedy="no engine reads it as such; it was left out",
                )
            )
            continue
        files += 1
        whose = engine or engine_of(path)
        content, wrong = read(path, whose, file)
        findings += wrong
        if content is not None:
            entries.append(_Entry(path, file, whose, content))
    if not files:
        raise ServingError(f"{folder} holds no file of tuned tiles: E=…,N=…,device_name=….json is the name of one")
    for entry in entries:
        findings += _of_one(entry, triton)
    findings += [*_twins(entries), *_pairs_of_projections(entries), *_folders(folder)]
    worst = {severity: rank for rank, severity in enumerate(Severity)}
    return Linted(files, sorted(findings, key=lambda finding: (worst[finding.severity], finding.file)))


def engine_of(path: Path) -> Engine:
    """Whose a file is, by the folder it lies in."""
    return Engine.vllm if _folder_version(path) is None else Engine.sglang


def _of_one(entry: _Entry, triton: str | None) -> Iterator[Finding]:
    yield from _unreachable(entry)
    yield from _version(entry, triton)
    yield from _element(entry)
    yield from _launch(entry, triton)
    yield from _batches(entry)
    yield from _width(entry)


def _unreachable(entry: _Entry) -> Iterator[Finding]:
    """A name under which the engine never looks."""
    name = entry.content.name
    try:
        wanted = name.file(entry.engine)
    except ServingError as problem:
        yield entry.finding(Severity.error, "name", "vLLM never reads it", str(problem))
        return
    if entry.path.name != wanted:
        # Older ones look for this member of the device's family.
        older = name.device != device_word(name.device, entry.engine)
        yield entry.finding(
            Severity.warning if older else Severity.error,
            "name",
            f"is not the name that {entry.engine.label} looks for",
            f"rename it to {wanted}",
        )


def _folder_version(path: Path) -> str | None:
    """The Triton version of SGLang's folder that a file lies in."""
    parent = path.absolute().parent.name
    return parent.removeprefix("triton_").replace("_", ".") if parent.startswith("triton_") else None


def _version(entry: _Entry, triton: str | None) -> Iterator[Finding]:
    if entry.engine is Engine.sglang:
        version, heed = _folder_version(entry.path), "SGLang takes it only where its own version has no such file"
    else:
        version, heed = entry.content.triton, "vLLM does not heed the version"
        if version is None:
            yield entry.finding(
                Severity.note, "version", "does not say which Triton it was tuned with", "tune it anew to know"
            )
    if version and triton and version != triton:
        yield entry.finding(
            Severity.warning, "version", f"was tuned with Triton {version}, {triton} will run it", f"{heed}: tune anew"
        )


def _folders(folder: Path) -> Iterator[Finding]:
    """SGLang sorts its folders by version when it looks for a file of another one."""
    for path in sorted({folder, *(path for path in folder.rglob("triton_*") if path.is_dir())}):
        version = path.absolute().name
        if version.startswith("triton_") and not re.fullmatch(r"triton_\d+(_\d+)*", version):
            yield Finding(
                severity=Severity.error,
                kind="version",
                file=str(path.relative_to(folder)),
                sentence=f"{version} is no version in numbers: SGLang stops at it when it looks for older files",
                remedy="rename the folder to triton_X_Y_Z",
            )


def _element(entry: _Entry) -> Iterator[Finding]:
    name = entry.content.name
    if name.dtype not in ELEMENTS:
        known = ", ".join(dtype for dtype in ELEMENTS if dtype)
        yield entry.finding(
            Severity.note,
            "dtype",
            f"dtype {name.dtype} is not known here, so its shared memory was not counted",
            f"known are {known}, and none for 16-bit floats",
        )
    if name.block_shape and name.dtype in (None, "float32"):
        yield entry.finding(
            Severity.error,
            "dtype",
            "has scales by block, and elements that have none",
            "name the quantised dtype: engines put block_shape after it only",
        )
    if name.block_shape:
        limit = min(name.block_shape)
        clamped = [M for M, tiles in entry.content.configs.items() if tiles["BLOCK_SIZE_K"] > limit]
        if clamped and entry.engine is Engine.vllm:
            yield entry.finding(
                Severity.note,
                "dtype",
                f"BLOCK_SIZE_K is above the block of {limit} for M = {_listed(clamped)}: vLLM takes {limit} instead",
                f"write {limit}",
            )


def _launch(entry: _Entry, triton: str | None) -> Iterator[Finding]:
    """Tiles whose buffers alone are more than the device has, with the Triton that will run them."""
    name, known = entry.content.name, gpu_named(entry.content.name.device)
    if known is None:
        yield entry.finding(
            Severity.note,
            "shared memory",
            f"{name.device} is not known here, so its shared memory was not compared",
            "nothing to do",
        )
    if known is None or name.dtype not in ELEMENTS:
        return
    row_bytes, weight_bytes = ELEMENTS[name.dtype]
    runs = triton or _folder_version(entry.path) or entry.content.triton
    one_buffer = name.device.startswith("AMD") and runs is not None and _before(runs, RINGS_ON_AMD)
    for M, tiles in entry.content.configs.items():
        if "num_stages" not in tiles:
            continue
        counted = {word: int(number) for word, number in tiles.items()}
        if name.block_shape:
            counted["BLOCK_SIZE_K"] = min(counted["BLOCK_SIZE_K"], *name.block_shape)
        if one_buffer:
            counted["num_stages"] = min(counted["num_stages"], 2)
        needed = shared_bytes(counted, row_bytes=row_bytes, weight_bytes=weight_bytes)
        if needed > known.shared_bytes:
            yield entry.finding(
                Severity.error,
                "shared memory",
                f"cannot start: {counted['num_stages'] - 1} buffers of tiles {_tile_words(counted)} need {needed} bytes"
                f" of shared memory, {name.device} has {known.shared_bytes}",
                "fewer stages or smaller tiles",
                M,
            )


def _before(version: str, bound: tuple[int, int]) -> bool:
    found = re.match(r"(\d+)\.(\d+)", version)
    return found is not None and (int(found[1]), int(found[2])) < bound


def _tile_words(tiles: Tiles) -> str:
    return "×".join(str(tiles[word]) for word in BLOCKS)


def _listed(numbers: Sequence[int], most: int = 8) -> str:
    shown = ", ".join(map(str, numbers[:most]))
    return f"{shown} and {len(numbers) - most} more" if len(numbers) > most else shown


def _batches(entry: _Entry) -> Iterator[Finding]:
    """Batch sizes that take the tiles of another, and what that costs by the model of `_expert_time`."""
    content = entry.content
    missing = [M for M in LADDER if M not in content.configs]
    if not missing or content.name.down:
        return
    last = max(content.configs)
    costs = {M: _snap(content, M) for M in missing if min(content.configs) < M < last}
    dearest = max(costs, key=lambda M: costs[M], default=None)
    severity, said = Severity.note, ""
    if dearest is not None and costs[dearest]:
        severity = Severity.warning if costs[dearest] > DEAR else Severity.note
        said = (
            f"; M = {dearest} takes {costs[dearest]:.0%} longer with those of M = {content.nearest(dearest)} than with "
            f"those of its other neighbour, by the model ({_assumed(content.name)})"
        )
    elif costs:
        said = "; by the model none would do better with those of its other neighbour"
    if last < missing[-1]:
        said += f"; all above take those of M = {last}"
    yield entry.finding(severity, "batch sizes", f"has no tiles for M = {_listed(missing)}{said}", "tune them too")


def _assumed(name: Name) -> str:
    return (
        f"assumed: {_routes(name):g} experts a token, rows spread evenly, {_flop_per_byte(name):.0f} FLOP in the time"
        " of a byte"
    )


def _snap(content: ServingFile, M: int) -> float:
    """What the nearest tiles cost above those of the neighbour on the other side, as a share."""
    neighbours = (
        max(known for known in content.configs if known < M),
        min(known for known in content.configs if known > M),
    )
    time = {known: _expert_time(content.name, M, int(content.configs[known]["BLOCK_SIZE_M"])) for known in neighbours}
    return time[content.nearest(M)] / min(time.values()) - 1


def _expert_time(name: Name, M: int, block_m: int) -> float:
    """Time of one expert's products in units of reading its weights once.

    Its rows, padded to whole tiles, are multiplied while its weights are read: the slower of the two is the time. That
    leaves out waves, caches and whatever else makes tiles faster or slower, so that it is no more than what padding
    alone would cost.
    """
    rows = max(1, math.ceil(M * _routes(name) / name.E))
    padded = math.ceil(rows / block_m) * block_m
    return max(1.0, padded / _flop_per_byte(name))


def _flop_per_byte(name: Name) -> float:
    known = gpu_named(name.device)
    return known.flop_per_byte if known and known.flop_per_byte else USUAL_FLOP_PER_BYTE


def _routes(name: Name) -> float:
    """Experts that a token takes here: as in the models with this shape when they agree, or what is usual.

    A rank that holds some of the experts gets its share of the routes only.
    """
    known = {model.K / shard.experts for model, shard in _models(name)}
    if len(known) == 1:
        return known.pop()
    return min(name.E, FEW_ROUTES if name.E <= FEW_EXPERTS else USUAL_ROUTES)


@dataclass(frozen=True)
class _Shard:
    """A layer cut into so many parts: by the width of its experts, or into whole experts."""

    width: int = 1
    experts: int = 1

    def __str__(self) -> str:
        if self.width > 1:
            return f"over {self.width} by width"
        return f"over {self.experts} by experts" if self.experts > 1 else "whole"


def _models(name: Name) -> Iterator[tuple[Model, _Shard]]:
    """Known models that have this E and N on one rank; the engines' kernel is for gated experts."""
    shards = [*(_Shard(width=parts) for parts in SHARDS), *(_Shard(experts=parts) for parts in SHARDS[1:])]
    for model in MODELS:
        for shard in shards:
            cut = divmod(model.E, shard.experts), divmod(model.F, shard.width)
            if model.gated and cut == ((name.E, 0), (name.N, 0)):
                yield model, shard


def _width(entry: _Entry) -> Iterator[Finding]:
    """The model width is not in the name: models that differ in it share the file."""
    known = {f"{model.name} (D = {model.D}, {shard})": model.D for model, shard in _models(entry.content.name)}
    if len(set(known.values())) > 1:
        yield entry.finding(
            Severity.warning,
            "model width",
            f"serves models of several widths alike: {', '.join(known)}",
            "keep a folder for each model, and point the engine at the one that is served",
        )


def _twins(entries: Iterable[_Entry]) -> Iterator[Finding]:
    """Files of one folder for the same shape, and files with the same bytes for others."""
    spelled: dict[tuple[Path, Name], list[_Entry]] = defaultdict(list)
    equal: dict[str, list[_Entry]] = defaultdict(list)
    for entry in entries:
        name = entry.content.name
        spelled[entry.path.parent, replace(name, device=device_word(name.device, entry.engine))].append(entry)
        equal[hashlib.sha256(entry.path.read_bytes()).hexdigest()].append(entry)
    for group in spelled.values():
        for first, other in pairwise(group):
            yield other.finding(
                Severity.warning, "duplicate", f"is for the same shape and device as {first.file}", "keep one"
            )
    for first, *others in equal.values():
        for other in others:
            yield other.finding(
                Severity.note,
                "duplicate",
                f"holds the same bytes as {first.file}",
                "if it was copied and not measured, tune it",
            )


def _pairs_of_projections(entries: Iterable[_Entry]) -> Iterator[Finding]:
    """SGLang sorts rows once for both projections, and stops when their tiles differ in rows."""
    found = {(entry.path.parent, entry.content.name): entry for entry in entries}
    for (folder, name), entry in found.items():
        if not name.down or entry.engine is not Engine.sglang:
            continue
        main = found.get((folder, replace(name, down=False)))
        if main is None:
            yield entry.finding(
                Severity.warning,
                "down projection",
                "has no file of the other projection beside it: SGLang stops where the tiles that it takes instead have"
                " another BLOCK_SIZE_M",
                f"add {replace(name, down=False).file(Engine.sglang)}",
            )
            continue
        apart = [M for M in _turns(main.content, entry.content) if _rows(main, M) != _rows(entry, M)]
        if apart:
            yield entry.finding(
                Severity.error,
                "down projection",
                f"BLOCK_SIZE_M is {_rows(entry, apart[0])}, beside {_rows(main, apart[0])} in {main.file}, for batches "
                f"of {_listed(apart)}, where SGLang stops",
                "give both the same",
                apart[0],
            )


def _rows(entry: _Entry, M: int) -> int:
    return int(entry.content.configs[entry.content.nearest(M)]["BLOCK_SIZE_M"])


def _turns(*files: ServingFile) -> list[int]:
    """Batch sizes between which no file's look-up changes, and those where it does: enough to compare all of them."""
    turns: set[int] = set()
    for file in files:
        known = sorted(file.configs)
        turns |= set(known)
        for low, high in pairwise(known):
            turns |= {(low + high) // 2, (low + high) // 2 + 1}
    return sorted(turns)
