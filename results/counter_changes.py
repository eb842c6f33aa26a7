"""Changes of counters since they were accepted: which got worse, better, or are no longer counted."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from .counters import QUANTITIES, Counters, Number, Quantity, Value, label, quantity

PREFIXES: Final = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))


class Direction(StrEnum):
    """Kinds of change, the worst first: ``different`` is neither better nor worse, ``missing`` is no longer counted."""

    broken = "broken"
    worse = "worse"
    missing = "missing"
    different = "different"
    better = "better"
    new = "new"

    @property
    def bad(self) -> bool:
        """True if the change has to be accepted before the gate passes."""
        return self not in (Direction.better, Direction.new)


@dataclass(frozen=True, kw_only=True)
class CounterChange:
    """One change at one point; ``text`` says what changed, from which value and to which."""

    point: str
    direction: Direction
    text: str


def changes(
    accepted: Counters, found: Counters, *, refused: Mapping[str, str], broken: Mapping[str, str]
) -> list[CounterChange]:
    """Return all changes, the worst first.

    ``refused`` and ``broken`` say by point why nothing is counted there; a point of a layer has those of its launches.
    """
    reported = [CounterChange(point=point, direction=Direction.broken, text=why) for point, why in broken.items()]
    for point in sorted({*accepted, *found}):
        if any(point == at or point.startswith(f"{at}, ") for at in broken):
            continue
        before, after = accepted.get(point, {}), found.get(point, {})
        both = (name for name in _sorted(before.keys() & after.keys()) if before[name] != after[name])
        reported += [_change(point, name, before[name], after[name]) for name in both if quantity(name).wanted != "any"]
        if gone := before.keys() - after.keys():
            why = f": {refused[point]}" if point in refused else ""
            reported.append(CounterChange(point=point, direction=Direction.missing, text=_labels(gone) + why))
        if new := after.keys() - before.keys():
            reported.append(CounterChange(point=point, direction=Direction.new, text=_labels(new)))
    return sorted(reported, key=lambda change: list(Direction).index(change.direction))


def _change(point: str, name: str, before: Value, after: Value) -> CounterChange:
    if isinstance(before, str) or isinstance(after, str):
        direction, step = Direction.different, _text_step(str(before), str(after))
    else:
        direction, step = _direction(quantity(name), before, after), _step(quantity(name), before, after)
    return CounterChange(point=point, direction=direction, text=f"{label(name)} {step}")


def _direction(quantity: Quantity, before: Number, after: Number) -> Direction:
    if quantity.wanted not in ("less", "more"):
        return Direction.different
    return Direction.worse if (after > before) == (quantity.wanted == "less") else Direction.better


def _sorted(names: Iterable[str]) -> list[str]:
    """Return names of counters in the order of `QUANTITIES`."""
    return sorted(names, key=lambda name: (list(QUANTITIES).index(name.partition(" ")[0]), name))


def _labels(names: Iterable[str]) -> str:
    return ", ".join(label(name) for name in _sorted(names))


def _step(quantity: Quantity, before: Number, after: Number) -> str:
    """Return ``1.21 -> 1.48 GB (+22.3 %)``: in one unit, with all digits where four do not tell the two apart."""
    if quantity.unit == "share":
        return f"{100 * before:.4g} -> {100 * after:.4g} %"
    change = f" ({100 * (after / before - 1):+.3g} %)" if before else ""
    scale, prefix = next(((s, p) for s, p in PREFIXES if quantity.unit and max(before, after) >= s), (1.0, ""))
    old, new = (f"{value / scale:.4g}" for value in (before, after))
    if not prefix or old == new:
        old, new, prefix = str(before), str(after), ""
    unit = f" {prefix}{quantity.unit}" if quantity.unit else ""
    return f"{old} -> {new}{unit}{change}"


def _text_step(before: str, after: str) -> str:
    """Return the words of two texts that the other has not: ``up=64x64x64w4s4 -> up=128x64x64w4s4``."""
    old, new = before.split(), after.split()
    return f"{' '.join(word for word in old if word not in new)} -> {' '.join(word for word in new if word not in old)}"
