"""Linter of tuned tiles: what cannot work in a folder of a serving engine, found without a GPU and without the engine.

It reports what is certain: files that cannot be read or are never looked for, tiles that cannot start, and versions
that differ. It does not guess how fast tiles are.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ...kernels.hardware.gpus import gpu_named
from ...kernels.hardware.reported_names import USUALLY, is_reported, likely_meant
from ...kernels.triton.vllm_tiles import BLOCKS, KNOBS, shared_bytes
from .engine import ENGINES, Engine, engine_of
from .export import ABOUT
from .lora_files import check_lora, is_lora_name
from .serving_file import Finding, PlacedFile, ServingError, Severity, Tiles

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
OTHER_BACKEND = re.compile(r",backend=\w+$")  # tiles of another kernel than Triton's, such as vLLM's for FlyDSL
DECODED = 16  # a block of rows of the smallest tile: batches up to this size want the same tiles
RINGS_ON_AMD = (3, 2)  # the first Triton that keeps tiles in several buffers there


@dataclass(frozen=True)
class Linted:
    """The number of files of tuned tiles, those for LoRA kernels among them, and the findings, the worst first."""

    files: int
    findings: list[Finding]


def lint(folder: Path, *, triton: str | None = None, engine: Engine | None = None) -> Linted:
    """Return what is wrong with the files of a folder and its subfolders.

    A file belongs to the engine that looks for files where it lies, or to ``engine``. ``triton`` is the version that
    will run the tiles.

    Raises:
        ServingError: when there is no such folder, or no file with the name of tuned tiles in it.
    """
    if not folder.is_dir():
        raise ServingError(
            f"{folder} is no folder: give one with files such as E=8,N=7168,device_name=NVIDIA_H200.json"
        )
    findings: list[Finding] = []
    files = 0
    placed: dict[str, list[PlacedFile]] = {name: [] for name in ENGINES.names()}
    for path in sorted(folder.rglob("*.json")):
        file = str(path.relative_to(folder))
        if path.name.endswith(ABOUT):
            continue
        if is_lora_name(path.name):
            files += 1
            findings += check_lora(path, file)
            continue
        if not path.name.startswith("E=") or OTHER_BACKEND.search(path.stem):
            findings.append(_another_name(file))
            continue
        files += 1
        reader = engine or engine_of(path)
        content, wrong = reader.read(path, file)
        findings += wrong
        if content is not None:
            placed[reader.name].append(PlacedFile(path, file, content))
    if not files:
        raise ServingError(f"{folder} holds no file of tuned tiles: E=…,N=…,device_name=….json is the name of one")
    for name, mine in placed.items():
        reader = ENGINES.load(name)
        findings += [finding for one in mine for finding in _of_one(one, reader, triton)]
        findings += reader.check(mine, folder)
    worst = {severity: rank for rank, severity in enumerate(Severity)}
    return Linted(files, sorted(findings, key=lambda finding: (worst[finding.severity], finding.file)))


def _another_name(file: str) -> Finding:
    return Finding(
        severity=Severity.note,
        kind="name",
        file=file,
        sentence="has another name than files of tuned tiles",
        remedy="no engine reads it as such; it was left out",
    )


def _of_one(placed: PlacedFile, engine: Engine, triton: str | None) -> Iterator[Finding]:
    yield from _unreachable(placed, engine)
    yield from _unreported(placed)
    yield from _below_the_smallest(placed)
    yield from _version(placed, engine, triton)
    yield from _element(placed)
    yield from _launch(placed, engine, triton)


def _unreachable(placed: PlacedFile, engine: Engine) -> Iterator[Finding]:
    """Yield a finding for a name under which the engine never looks."""
    name = placed.content.name
    try:
        wanted = engine.file_name(name)
    except ServingError as problem:
        yield placed.finding(Severity.error, "name", f"{engine.label} never reads it", str(problem))
        return
    if placed.path.name != wanted:
        # Older versions of an engine have another word for a member of a device's family.
        older = name.device != engine.device_word(name.device)
        yield placed.finding(
            Severity.warning if older else Severity.error,
            "name",
            f"is not the name that {engine.label} looks for",
            f"rename it to {wanted}",
        )


def _unreported(placed: PlacedFile) -> Iterator[Finding]:
    """Yield a finding for a device that no driver reports, so that the engine never asks for the file."""
    device = placed.content.name.device
    rare = is_reported(device) and device in USUALLY
    if (meant := likely_meant(device)) and (rare or not is_reported(device)):
        yield placed.finding(
            Severity.warning,
            "name",
            f"{'hardly a' if rare else 'no'} driver reports a device as {device}",
            f"give it the name that nvidia-smi or rocm-smi shows, such as {meant}",
        )


def _below_the_smallest(placed: PlacedFile) -> Iterator[Finding]:
    """Yield a finding where all small batches, those of decoding, take the tiles of a large one."""
    smallest = min(placed.content.configs, default=1)
    if smallest > DECODED:
        yield placed.finding(
            Severity.warning,
            "keys",
            f"batches of M = 1 to {smallest - 1} take the tiles of M = {smallest}",
            f"tune small batches too, --tokens 1,16,{smallest}, or write the engine's own tiles for them, "
            "`moebench tables export --pin`",
        )


def _version(placed: PlacedFile, engine: Engine, triton: str | None) -> Iterator[Finding]:
    version = engine.tuned_with(placed)
    if version is None:
        yield placed.finding(
            Severity.note, "version", "does not say which Triton it was tuned with", "tune it anew to know"
        )
    elif triton and version != triton:
        yield placed.finding(
            Severity.warning,
            "version",
            f"was tuned with Triton {version}, {triton} will run it",
            f"{engine.version_rule}: tune anew",
        )


def _element(placed: PlacedFile) -> Iterator[Finding]:
    name = placed.content.name
    if name.dtype not in ELEMENTS:
        known = ", ".join(dtype for dtype in ELEMENTS if dtype)
        yield placed.finding(
            Severity.note,
            "dtype",
            f"dtype {name.dtype} is not known here, so its shared memory was not counted",
            f"known are {known}, and none for 16-bit floats",
        )
    if name.block_shape and name.dtype in (None, "float32"):
        yield placed.finding(
            Severity.error,
            "dtype",
            "has scales by block, and elements that have none",
            "name the quantised dtype: engines put block_shape after it only",
        )


def _launch(placed: PlacedFile, engine: Engine, triton: str | None) -> Iterator[Finding]:
    """Yield tiles whose buffers alone are more than the device has, with the Triton that will run them."""
    name, known = placed.content.name, gpu_named(placed.content.name.device)
    if known is None:
        yield placed.finding(
            Severity.note,
            "shared memory",
            f"{name.device} is not known here, so its shared memory was not compared",
            "nothing to do",
        )
    if known is None or name.dtype not in ELEMENTS:
        return
    row_bytes, weight_bytes = ELEMENTS[name.dtype]
    runs = triton or engine.tuned_with(placed)
    one_buffer = name.device.startswith("AMD") and runs is not None and _before(runs, RINGS_ON_AMD)
    for M, tiles in placed.content.configs.items():
        if "num_stages" not in tiles:
            continue
        counted = {word: int(tiles[word]) for word in KNOBS if word in tiles}
        if name.block_shape:
            counted["BLOCK_SIZE_K"] = min(counted["BLOCK_SIZE_K"], *name.block_shape)
        if one_buffer:
            counted["num_stages"] = min(counted["num_stages"], 2)
        needed = shared_bytes(counted, row_bytes=row_bytes, weight_bytes=weight_bytes)
        if needed > known.shared_bytes:
            yield placed.finding(
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
