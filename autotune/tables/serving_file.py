"""Files of tuned tiles for the fused MoE kernel of a serving engine: the name, the content, and what is wrong with it.

The engines look a file up by its exact name, made of the shape and the device. The content is a JSON object from batch
sizes M (tokens) to tiles; a batch takes the tiles of the nearest M, the first in the file when two are as near.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from ...common.errors import UserError

Tiles = Mapping[str, int | bool | str]

_NAME = re.compile(
    r"E=(?P<E>\d{1,9}),N=(?P<N>\d{1,9}),device_name=(?P<device>[\w.()+@-]+?)"
    r"(?:,dtype=(?P<dtype>\w+?))?"
    r"(?:,block_shape=\[(?P<bn>\d{1,6}),(?P<space> ?)(?P<bk>\d{1,6})\])?"
    r"(?P<channel>,per_channel_quant=True)?(?P<down>_down)?\.json",
    re.ASCII,
)


class ServingError(UserError, ValueError):
    """A name or a file that an engine cannot use; the message names it and the remedy."""


class Severity(StrEnum):
    """How bad a finding is: with an ``error`` it cannot work; with a ``warning`` it works, but worse than meant."""

    error = "error"
    warning = "warning"
    note = "note"


@dataclass(frozen=True, kw_only=True)
class Finding:
    """Something wrong with a file, or with its tiles for batch size M, and what to do."""

    severity: Severity
    kind: str
    file: str
    M: int | None = None
    sentence: str
    remedy: str

    def __str__(self) -> str:
        where = self.file if self.M is None else f"{self.file}, M = {self.M}"
        return f"{where}: {self.sentence}; {self.remedy}"


def severest(findings: Iterable[Finding]) -> Severity | None:
    """Return the worst severity, None without findings."""
    found = {finding.severity for finding in findings}
    return next((severity for severity in Severity if severity in found), None)


@dataclass(frozen=True, kw_only=True)
class TileFileName:
    """The fields of a file name: local experts ``E``, width ``N`` of one expert's shard, the device with _ for spaces.

    ``dtype`` is None for 16-bit floats. ``block_shape``: weights are scaled by blocks of so many columns and terms;
    ``per_channel``: by row. ``down``: the tiles are those of the down projection alone.

    Raises:
        ServingError: for a device or dtype that no file name can hold.
    """

    E: int
    N: int
    device: str
    dtype: str | None = None
    block_shape: tuple[int, int] | None = None
    per_channel: bool = False
    down: bool = False

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[\w.()+@-]+", self.device, re.ASCII):
            raise ServingError(f"device {self.device!r}: give letters, digits and _.()+@- only")
        if self.dtype is not None and not re.fullmatch(r"\w+", self.dtype, re.ASCII):
            raise ServingError(f"dtype {self.dtype!r}: give letters, digits and _ only")

    @staticmethod
    def parse(file: str) -> TileFileName:
        """Return the fields of a file name.

        Raises:
            ServingError: when it is no name of tuned tiles.
        """
        found = _NAME.fullmatch(file)
        if not found:
            raise ServingError(f"{file!r} is no name of tuned tiles: E=…,N=…,device_name=….json is one")
        return TileFileName(
            E=int(found["E"]),
            N=int(found["N"]),
            device=found["device"],
            dtype=found["dtype"],
            block_shape=(int(found["bn"]), int(found["bk"])) if found["bn"] else None,
            per_channel=bool(found["channel"]),
            down=bool(found["down"]),
        )

    def spelled(self, *, device: str, gap: str = "") -> str:
        """Return the file name with the engine's word for the device; ``gap`` follows the comma in a block shape."""
        dtype = f",dtype={self.dtype}" if self.dtype else ""
        block = f",block_shape=[{self.block_shape[0]},{gap}{self.block_shape[1]}]" if self.block_shape else ""
        channel = ",per_channel_quant=True" if self.per_channel else ""
        down = "_down" if self.down else ""
        return f"E={self.E},N={self.N},device_name={device}{dtype}{block}{channel}{down}.json"


@dataclass(frozen=True, kw_only=True)
class ServingFile:
    """The content of one file: its name, and tiles by batch size in the order of the file.

    ``triton`` is the version that it names, None where it names none.
    """

    name: TileFileName
    configs: Mapping[int, Tiles]
    triton: str | None = None

    def nearest(self, M: int) -> int:
        """Return the batch size whose tiles a batch of ``M`` tokens takes."""
        return min(self.configs, key=lambda known: abs(known - M))


@dataclass(frozen=True)
class PlacedFile:
    """A file where it lies; findings call it ``file``."""

    path: Path
    file: str
    content: ServingFile

    def finding(self, severity: Severity, kind: str, sentence: str, remedy: str, M: int | None = None) -> Finding:
        """Return a finding about this file."""
        return Finding(severity=severity, kind=kind, file=self.file, M=M, sentence=sentence, remedy=remedy)
