"""SGLang: a folder of files for each Triton version, and files of the down projection beside the others.

It looks in ``configs/triton_X_Y_Z`` of the folder of ``SGLANG_MOE_CONFIG_DIR``, then in those of other versions, and
makes an int of every key. Tiles go to the kernel as they are: an unknown word among them stops it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

from ....kernels.hardware.gpus import gpu_named
from ....kernels.triton.vllm_tiles import KNOBS
from ..engine import Engine
from ..own_tiles import OwnTiles
from ..serving_file import Finding, PlacedFile, ServingError, ServingFile, Severity, TileFileName, Tiles
from ..tile_reader import read_tiles

PREFIX, CONFIGS = "triton_", "configs"
AT_A_DIFFERENCE = "SGLang 0.5.23 takes that of the other projection, and older ones stop"
LITTLE_SHARED = 128 << 10  # bytes of shared memory below which SGLang has other tiles for float8


class SGLang(Engine):
    """SGLang."""

    label = "SGLang"
    version_rule = "SGLang takes it only where its own version has no such file"
    own_kernel = "SGLang's kernel began as a copy of it: measure again there"
    scales_by_row = True
    ships = "sglang/srt/layers/moe/moe_runner/triton_utils"

    def owns(self, path: Path) -> bool:
        return path.name.startswith("E=") and path.absolute().parent.name.startswith(PREFIX)

    def file_name(self, name: TileFileName) -> str:
        return name.spelled(device=self.device_word(name.device), gap=" ")

    def folder(self, triton: str | None) -> str:
        numbers = (triton or "").partition("+")[0].split(".")
        if not all(number.isascii() and number.isdecimal() for number in numbers):
            raise ServingError(
                f"SGLang's folder is named by the Triton version in numbers, this was tuned with {triton}: "
                "tune it with a released Triton"
            )
        return f"{CONFIGS}/{PREFIX}{'_'.join(numbers)}"

    def body(self, file: ServingFile) -> str:
        return json.dumps({str(M): dict(file.configs[M]) for M in sorted(file.configs)}, indent=4) + "\n"

    def read(self, path: Path, file: str) -> tuple[ServingFile | None, list[Finding]]:
        return read_tiles(
            path, file, version_key=None, stray="take it out: the name of SGLang's folder has the version"
        )

    def own_tiles(self, name: TileFileName) -> OwnTiles | None:
        known = gpu_named(name.device)
        if name.dtype == "fp8_w8a8" and known is None:
            return None
        little = known is not None and known.shared_bytes < LITTLE_SHARED and not name.device.startswith("AMD")
        return OwnTiles(
            source="SGLang 0.5.23, get_default_config of "
            "sglang/srt/layers/moe/moe_runner/triton_utils/fused_moe_triton_config.py",
            tiles=lambda M: _own_float8(M, name, little=little) if name.dtype == "fp8_w8a8" else _own_tiles(M, name),
            turns=(name.E + 1,),
        )

    def usage(self, folder: Path) -> str:
        return f"SGLANG_MOE_CONFIG_DIR={folder}, which SGLang reads in place of its own folder"

    def tuned_with(self, placed: PlacedFile) -> str | None:
        """Return the Triton version in the name of the folder."""
        parent = placed.path.absolute().parent.name
        return parent.removeprefix(PREFIX).replace("_", ".") if parent.startswith(PREFIX) else None

    def check(self, files: Sequence[PlacedFile], folder: Path) -> Iterator[Finding]:
        """Yield folders that SGLang cannot sort by version, and projections whose tiles do not fit each other."""
        yield from _folders(folder)
        found = {(placed.path.parent, placed.content.name): placed for placed in files}
        for (parent, name), placed in found.items():
            if name.down:
                main = found.get((parent, replace(name, down=False)))
                yield from self._alone(placed) if main is None else _apart(placed, main)

    def _alone(self, down: PlacedFile) -> Iterator[Finding]:
        wanted = self.file_name(replace(down.content.name, down=False))
        yield down.finding(
            Severity.warning,
            "down projection",
            "has no file of the other projection beside it: where the tiles that SGLang takes instead have another"
            f" BLOCK_SIZE_M, {AT_A_DIFFERENCE}",
            f"add {wanted}",
        )


def _folders(folder: Path) -> Iterator[Finding]:
    for path in sorted({folder, *(path for path in folder.rglob(f"{PREFIX}*") if path.is_dir())}):
        version = path.absolute().name
        if path.absolute().parent.name == CONFIGS and not re.fullmatch(rf"{PREFIX}\d+(_\d+)*", version):
            yield Finding(
                severity=Severity.error,
                kind="version",
                file=str(path.relative_to(folder)),
                sentence=f"{version} is no version in numbers: SGLang stops at it when it looks for older files",
                remedy="rename the folder to triton_X_Y_Z",
            )


def _apart(down: PlacedFile, main: PlacedFile) -> Iterator[Finding]:
    """Yield where the projections differ in rows: SGLang sorts rows once for both."""
    batches = [M for M in _turns(main.content, down.content) if _rows(main, M) != _rows(down, M)]
    if batches:
        first = batches[0]
        yield down.finding(
            Severity.warning,
            "down projection",
            f"BLOCK_SIZE_M is {_rows(down, first)}, beside {_rows(main, first)} in {main.file}, for batches of "
            f"{_listed(batches)}, where {AT_A_DIFFERENCE}",
            "give both the same",
            first,
        )


def _rows(placed: PlacedFile, M: int) -> int:
    return int(placed.content.configs[placed.content.nearest(M)]["BLOCK_SIZE_M"])


def _turns(*files: ServingFile) -> list[int]:
    """Return batch sizes on both sides of every change of a look-up: enough to compare the files for all sizes."""
    turns: set[int] = set()
    for file in files:
        known = sorted(file.configs)
        turns |= set(known)
        for low, high in pairwise(known):
            turns |= {(low + high) // 2, (low + high) // 2 + 1}
    return sorted(turns)


def _listed(numbers: Sequence[int], most: int = 8) -> str:
    shown = ", ".join(map(str, numbers[:most]))
    return f"{shown} and {len(numbers) - most} more" if len(numbers) > most else shown


def _own_tiles(M: int, name: TileFileName) -> Tiles:
    """Return the tiles that SGLang 0.5.23 takes without a file; Triton chooses warps and stages."""
    sizes = (16, 32, 64, 1) if name.E >= M else (64, 64, 32, 8)
    return dict(zip(KNOBS, sizes, strict=False))


def _own_float8(M: int, name: TileFileName, *, little: bool) -> Tiles:
    """Return the tiles that SGLang 0.5.23 takes without a file for float8 without blocks of scales."""
    few, stages = name.E >= M, 2 if name.device.startswith("AMD") else 4
    if little:
        knobs = (32, 64, 256, 1, 4, 4) if few else (64, 128, 256, 64, 4, 2)
    else:
        knobs = (64, 128, 128, 1, 4, stages) if few else (128, 256, 128, 32, 8, stages)
    return dict(zip(KNOBS, knobs, strict=True))


engine = SGLang()
