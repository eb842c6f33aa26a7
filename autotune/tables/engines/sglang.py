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

from ..engine import Engine
from ..serving_file import Finding, PlacedFile, ServingError, ServingFile, Severity, TileFileName
from ..tile_reader import read_tiles

PREFIX = "triton_"


class SGLang(Engine):
    """SGLang."""

    label = "SGLang"
    version_rule = "SGLang takes it only where its own version has no such file"
    own_kernel = "SGLang's kernel began as a copy of it: measure again there"
    scales_by_row = True

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
        return f"configs/{PREFIX}{'_'.join(numbers)}"

    def body(self, file: ServingFile) -> str:
        return json.dumps({str(M): dict(file.configs[M]) for M in sorted(file.configs)}, indent=4) + "\n"

    def read(self, path: Path, file: str) -> tuple[ServingFile | None, list[Finding]]:
        return read_tiles(
            path, file, version_key=None, stray="take it out: the name of SGLang's folder has the version"
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
            "has no file of the other projection beside it: SGLang stops where the tiles that it takes instead have"
            " another BLOCK_SIZE_M",
            f"add {wanted}",
        )


def _folders(folder: Path) -> Iterator[Finding]:
    for path in sorted({folder, *(path for path in folder.rglob(f"{PREFIX}*") if path.is_dir())}):
        version = path.absolute().name
        if version.startswith(PREFIX) and not re.fullmatch(rf"{PREFIX}\d+(_\d+)*", version):
            yield Finding(
                severity=Severity.error,
                kind="version",
                file=str(path.relative_to(folder)),
                sentence=f"{version} is no version in numbers: SGLang stops at it when it looks for older files",
                remedy="rename the folder to triton_X_Y_Z",
            )


def _apart(down: PlacedFile, main: PlacedFile) -> Iterator[Finding]:
    """Yield where the projections differ in rows: SGLang sorts rows once for both, and stops there."""
    batches = [M for M in _turns(main.content, down.content) if _rows(main, M) != _rows(down, M)]
    if batches:
        first = batches[0]
        yield down.finding(
            Severity.error,
            "down projection",
            f"BLOCK_SIZE_M is {_rows(down, first)}, beside {_rows(main, first)} in {main.file}, for batches of "
            f"{_listed(batches)}, where SGLang stops",
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


engine = SGLang()
