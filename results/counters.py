"""Counters: what a kernel does, counted without a clock, and the files of the accepted ones.

The accepted counters are files in one folder, a file for each family of implementations and a line for each counter, so
that a diff shows which counter changed.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from ..common.errors import UserError
from ..common.files import write_whole
from ..common.packages import installed_version

Number = int | Annotated[float, Field(allow_inf_nan=False)]
Value = Number | str
Counters = Mapping[str, Mapping[str, Value]]
"""Counters by the point where they were counted, and by the name of the quantity."""


@dataclass(frozen=True, kw_only=True)
class Quantity:
    """One thing that is counted, and how a change of it is judged.

    ``wanted``: ``less`` or ``more`` of it is better; where the ``same`` is wanted, every change has to be accepted;
    where ``any`` will do, no change is reported. ``unit`` is ``text`` where the value is a text.
    """

    label: str
    unit: Literal["", "B", "FLOP", "share", "text"]
    wanted: Literal["less", "more", "same", "any"]


QUANTITIES: Final = {
    # of a problem
    "useful_flops": Quantity(label="useful FLOPs", unit="FLOP", wanted="same"),
    "ideal_bytes": Quantity(label="ideal bytes", unit="B", wanted="same"),
    "drop_rate": Quantity(label="drop rate", unit="share", wanted="less"),
    # of an implementation
    "executed_flops": Quantity(label="executed FLOPs", unit="FLOP", wanted="less"),
    "padding": Quantity(label="padding", unit="share", wanted="less"),
    "workspace_bytes": Quantity(label="estimated workspace", unit="B", wanted="less"),
    "modelled_bytes": Quantity(label="modelled bytes", unit="B", wanted="less"),
    "node_bytes": Quantity(label="traffic inside nodes", unit="B", wanted="less"),
    "across_bytes": Quantity(label="traffic between nodes", unit="B", wanted="less"),
    "messages": Quantity(label="messages", unit="", wanted="less"),
    "peak_bytes": Quantity(label="peak memory", unit="B", wanted="less"),
    "saved_bytes": Quantity(label="saved bytes", unit="B", wanted="less"),
    "operators": Quantity(label="operators", unit="", wanted="less"),
    "host_waits": Quantity(label="host waits", unit="", wanted="less"),
    "launches": Quantity(label="launches", unit="", wanted="less"),
    "configs": Quantity(label="configurations", unit="", wanted="same"),
    "valid_configs": Quantity(label="configurations that can be built", unit="", wanted="same"),
    # of the machine code of a layer, and of each of its launches; an instruction's name follows the last three
    "config": Quantity(label="default configuration", unit="text", wanted="same"),
    "registers": Quantity(label="registers of a thread", unit="", wanted="less"),
    "spill_bytes": Quantity(label="spilled bytes of a thread", unit="B", wanted="less"),
    "shared_bytes": Quantity(label="shared memory of a program", unit="B", wanted="less"),
    "occupancy": Quantity(label="programs on a processor", unit="", wanted="more"),
    "warps": Quantity(label="warps", unit="", wanted="any"),
    "code_bytes": Quantity(label="bytes of code", unit="B", wanted="any"),
    "tensor_columns": Quantity(label="columns of tensor memory", unit="", wanted="any"),
    "tensor_core": Quantity(label="tensor-core instructions", unit="", wanted="any"),
    "bulk_copies": Quantity(label="copies past the registers", unit="", wanted="any"),
    "spills": Quantity(label="instructions that spill", unit="", wanted="less"),
}
"""All quantities by the first word of their names."""

Source = Literal["calls", "machine_code"]
"""Where counters come from: cost models and calls of every implementation, or the compiler.

The former are many families. The latter takes minutes, and is one family, of the name of the source.
"""
PACKAGES: Final[Mapping[Source, tuple[str, ...]]] = {
    "calls": ("torch", "transformers"),  # torch decides which operators there are; transformers is a peer
    "machine_code": ("triton",),
}
"""The packages on whose versions the counters of a source depend."""

NOT_INSTALLED: Final = "none"

ACCEPTED_HERE: Final = Path("results") / "recorded" / "counters"
"""Folder of the accepted counters in a checkout, as seen from its root."""

ACCEPTED: Final = Path(__file__).parent / "recorded" / "counters"
"""Folder of the counters that were accepted when moebench was built; in a checkout, the checkout's own."""


class CountersError(UserError):
    """Accepted counters that cannot be read or compared; the message names the file and the remedy."""


def quantity(name: str) -> Quantity:
    """Return the quantity of a counter's name; a name of instructions carries theirs: ``tensor_core HGMMA``."""
    return QUANTITIES[name.partition(" ")[0]]


def label(name: str) -> str:
    """Return the name of a counter as a reader sees it."""
    return f"{quantity(name).label} {name.partition(' ')[2]}".rstrip()


class CounterSheet(BaseModel):
    """The counters of a family, and the versions of the packages that they depend on."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    made_with: dict[str, str]
    counters: dict[str, Value]

    @field_validator("counters")
    @classmethod
    def _of_known_quantities(cls, counters: dict[str, Value]) -> dict[str, Value]:
        for key, value in counters.items():
            name = key.rpartition(": ")[2]
            if name.partition(" ")[0] not in QUANTITIES:
                raise ValueError(f"{key!r} names no quantity")
            if isinstance(value, str) != (quantity(name).unit == "text"):
                raise ValueError(f"{value!r} is no value of {key!r}")
        return counters

    @staticmethod
    def of(counters: Counters, made_with: Mapping[str, str]) -> CounterSheet:
        """Return the sheet of counters by point and quantity."""
        flat = {f"{point}: {name}": value for point, found in counters.items() for name, value in found.items()}
        return CounterSheet(made_with=dict(made_with), counters=flat)

    @property
    def points(self) -> Counters:
        """The counters by point and quantity."""
        points: dict[str, dict[str, Value]] = {}
        for key, value in self.counters.items():
            point, _, name = key.rpartition(": ")
            points.setdefault(point, {})[name] = value
        return points


def made_with(source: Source) -> dict[str, str]:
    """Return the installed versions that the counters of a source depend on, without the part that names a build."""
    return {package: (installed_version(package) or NOT_INSTALLED).partition("+")[0] for package in PACKAGES[source]}


def read(folder: Path, source: Source) -> Counters:
    """Return the accepted counters of a source, all families together.

    Raises:
        CountersError: when there are none, when a file holds something else or counters of other versions.
    """
    found: dict[str, Mapping[str, Value]] = {}
    versions = made_with(source)
    for path in _files(folder, source):
        sheet = _sheet(path)
        for package in sorted({*sheet.made_with, *versions}):
            accepted, here = (of.get(package, NOT_INSTALLED) for of in (sheet.made_with, versions))
            if accepted != here:
                raise CountersError(
                    f"{path} holds counters of {package} {accepted}, here there is {here}, and they do not compare: "
                    "install '.[peers]' with -c constraints.txt, or accept new ones with --accept"
                )
        found.update(sheet.points)
    if not found:
        raise CountersError(f"{folder} holds no counters to compare with: write them with --accept")
    return found


def write(folder: Path, source: Source, families: Mapping[str, Counters]) -> None:
    """Write the counters of all families of a source, sorted, one a line; files of families that are no more go.

    Raises:
        CountersError: when a file that would go holds something else; then nothing is written.
    """
    stale = [path for path in _files(folder, source) if path.stem not in families]
    for path in stale:
        _sheet(path)
    for family, counters in families.items():
        sheet = CounterSheet.of(counters, made_with(source))
        write_whole(folder / f"{family}.json", f"{json.dumps(sheet.model_dump(), indent=1, sort_keys=True)}\n")
    for path in stale:
        path.unlink()


def _files(folder: Path, source: Source) -> Iterable[Path]:
    """Return the files of a source: the one named for it, or all others."""
    return [path for path in sorted(folder.glob("*.json")) if (path.stem == "machine_code") == (source != "calls")]


def _sheet(path: Path) -> CounterSheet:
    try:
        return CounterSheet.model_validate_json(path.read_bytes())
    except ValidationError as error:
        why = error.errors(include_url=False)[0]["msg"]
    except OSError as error:
        why = str(error.strerror)
    raise CountersError(f"{path} holds no counters ({why}): restore it, or remove it and begin anew with --accept")
