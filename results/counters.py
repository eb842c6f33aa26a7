"""Figures: what a call does, counted without a clock, and what has changed since somebody last accepted it.

They stand on file, a file for each family of implementations and a line for each figure, so that a diff reads well.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from ..common.errors import UserError

Number = int | Annotated[float, Field(allow_inf_nan=False)]
Counters = dict[str, dict[str, Number]]
"""By the point where they were counted, in words, and by the name of the quantity."""


@dataclass(frozen=True, kw_only=True)
class Quantity:
    """What is counted, in ``words``; whether ``less`` of it is better, or no change of it is good or bad by itself."""

    words: str
    unit: Literal["", "B", "FLOP", "share"]
    less: bool


QUANTITIES: Final = {
    "useful_flops": Quantity(words="useful FLOPs", unit="FLOP", less=False),
    "ideal_bytes": Quantity(words="ideal bytes", unit="B", less=False),
    "drop_rate": Quantity(words="drop rate", unit="share", less=True),
    "executed_flops": Quantity(words="executed FLOPs", unit="FLOP", less=True),
    "padding": Quantity(words="padding", unit="share", less=True),
    "workspace_bytes": Quantity(words="estimated workspace", unit="B", less=True),
    "modelled_bytes": Quantity(words="modelled bytes", unit="B", less=True),
    "node_bytes": Quantity(words="traffic inside nodes", unit="B", less=True),
    "across_bytes": Quantity(words="traffic between nodes", unit="B", less=True),
    "messages": Quantity(words="messages", unit="", less=True),
    "peak_bytes": Quantity(words="peak memory", unit="B", less=True),
    "saved_bytes": Quantity(words="saved bytes", unit="B", less=True),
    "operators": Quantity(words="operators", unit="", less=True),
    "host_waits": Quantity(words="host waits", unit="", less=True),
    "launches": Quantity(words="launches", unit="", less=True),
    "configs": Quantity(words="configurations", unit="", less=False),
    "valid_configs": Quantity(words="configurations that can be built", unit="", less=False),
}
"""Of a problem: useful FLOPs, ideal bytes and the drop rate. Of an implementation: the others."""


NOT_THERE: Final = "none"
PREFIXES: Final = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))


class Direction(StrEnum):
    """What a change is, the worst first: ``different`` is neither better nor worse, ``missing`` is counted no more."""

    broken = "broken"
    worse = "worse"
    missing = "missing"
    different = "different"
    better = "better"
    new = "new"

    @property
    def bad(self) -> bool:
        """Whether somebody has to accept it."""
        return self not in (Direction.better, Direction.new)


@dataclass(frozen=True, kw_only=True)
class CounterChange:
    """One change at one ``point``, said in ``words``."""

    point: str
    direction: Direction
    words: str


class CountersError(UserError):
    """Figures on file that cannot be read or compared; the message names the file and the remedy."""


class CounterSheet(BaseModel):
    """The figures of a family, and the versions of the packages that they depend on."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    made_with: dict[str, str]
    counters: dict[str, Number]

    @field_validator("counters")
    @classmethod
    def _of_known_quantities(cls, counters: dict[str, Number]) -> dict[str, Number]:
        for key in counters:
            if key.rpartition(": ")[2] not in QUANTITIES:
                raise ValueError(f"{key!r} names no quantity")
        return counters

    @staticmethod
    def of(counters: Counters, made_with: Mapping[str, str]) -> CounterSheet:
        """The sheet of figures by point and quantity."""
        flat = {f"{point}: {name}": value for point, found in counters.items() for name, value in found.items()}
        return CounterSheet(made_with=dict(made_with), counters=flat)

    @property
    def points(self) -> Counters:
        """The figures by point and quantity."""
        points: Counters = {}
        for key, value in self.counters.items():
            point, _, name = key.rpartition(": ")
            points.setdefault(point, {})[name] = value
        return points


def read(folder: Path, made_with: Mapping[str, str]) -> Counters:
    """The figures of all families in a folder that `write` wrote to, with these versions.

    Raises:
        CountersError: when there are none, when a file holds something else, or the figures of other versions.
    """
    found: Counters = {}
    for path in sorted(folder.glob("*.json")):
        sheet = _sheet(path)
        for package in sorted({*sheet.made_with, *made_with}):
            accepted, here = (versions.get(package, NOT_THERE) for versions in (sheet.made_with, made_with))
            if accepted != here:
                raise CountersError(
                    f"{path} holds counters of {package} {accepted}, here there is {here}, and they do not compare: "
                    "install '.[peers]' with -c constraints.txt, or accept new ones with --accept"
                )
        found.update(sheet.points)
    if not found:
        raise CountersError(f"{folder} holds no counters to compare with: write them with --accept")
    return found


def write(folder: Path, families: Mapping[str, Counters], made_with: Mapping[str, str]) -> None:
    """Put the figures of all families on file, each sorted, one a line; those of families that are no more go.

    Raises:
        CountersError: when another file there holds something else; then nothing is written.
    """
    stale = [path for path in folder.glob("*.json") if path.stem not in families]
    for path in stale:
        _sheet(path)
    for family, figures in families.items():
        text = json.dumps(CounterSheet.of(figures, made_with).model_dump(), indent=1, sort_keys=True)
        (folder / f"{family}.json").write_text(f"{text}\n", encoding="utf-8")
    for path in stale:
        path.unlink()


def _sheet(path: Path) -> CounterSheet:
    try:
        return CounterSheet.model_validate_json(path.read_bytes())
    except ValidationError as error:
        why = error.errors(include_url=False)[0]["msg"]
    except OSError as error:
        why = str(error.strerror)
    raise CountersError(f"{path} holds no counters ({why}): restore it, or remove it and begin anew with --accept")


def changes(
    accepted: Counters, found: Counters, *, refused: Mapping[str, str], broken: Mapping[str, str]
) -> list[CounterChange]:
    """What is other than accepted, the worst first; ``refused`` and ``broken`` say by point why nothing is counted."""
    told = [CounterChange(point=point, direction=Direction.broken, words=why) for point, why in broken.items()]
    for point in sorted({*accepted, *found} - broken.keys()):
        before, after = accepted.get(point, {}), found.get(point, {})
        both = (name for name in _sorted(before.keys() & after.keys()) if before[name] != after[name])
        told += [_change(point, QUANTITIES[name], before[name], after[name]) for name in both]
        if gone := before.keys() - after.keys():
            why = f": {refused[point]}" if point in refused else ""
            told.append(CounterChange(point=point, direction=Direction.missing, words=_named(gone) + why))
        if new := after.keys() - before.keys():
            told.append(CounterChange(point=point, direction=Direction.new, words=_named(new)))
    return sorted(told, key=lambda change: list(Direction).index(change.direction))


def _change(point: str, quantity: Quantity, before: Number, after: Number) -> CounterChange:
    direction = Direction.different
    if quantity.less:
        direction = Direction.worse if after > before else Direction.better
    return CounterChange(point=point, direction=direction, words=f"{quantity.words} {_step(quantity, before, after)}")


def _sorted(names: Iterable[str]) -> list[str]:
    """Names of quantities in the order of `QUANTITIES`."""
    return sorted(names, key=list(QUANTITIES).index)


def _named(names: Iterable[str]) -> str:
    return ", ".join(QUANTITIES[name].words for name in _sorted(names))


def _step(quantity: Quantity, before: Number, after: Number) -> str:
    """``1.21 -> 1.48 GB (+22.3 %)``: in one unit, with all digits where four do not tell the two apart."""
    if quantity.unit == "share":
        return f"{100 * before:.4g} -> {100 * after:.4g} %"
    change = f" ({100 * (after / before - 1):+.3g} %)" if before else ""
    scale, prefix = next(((s, p) for s, p in PREFIXES if quantity.unit and max(before, after) >= s), (1.0, ""))
    old, new = (f"{value / scale:.4g}" for value in (before, after))
    if not prefix or old == new:
        old, new, prefix = str(before), str(after), ""
    unit = f" {prefix}{quantity.unit}" if quantity.unit else ""
    return f"{old} -> {new}{unit}{change}"
