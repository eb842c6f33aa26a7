"""Repetition: the commands that measure records again, derived from the records and checked against the suites.

A record tells its problem and its place in a suite, not the words of the command that asked for it. So commands are
tried from the plainest on, and one counts that plans the points of the records.
"""

from __future__ import annotations

import itertools
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, get_args

from ..common.errors import UserError
from ..kernels.problem import Problem
from ..kernels.problem.models import MODELS
from ..results.record import Record, Size
from ..results.record.earlier_schema import TUNING
from ..results.record.reproduction import Reproduction
from ..results.references import NOT_COMPETING
from .layer import Asked, Layer
from .plan import chosen
from .suite import SUITES

WORDS: Final[Mapping[str, str]] = {
    "T": "tokens",
    "dtype": "dtype",
    "mode": "mode",
    "load": "load",
    "router": "router",
    "capacity_factor": "capacity",
    "ranks": "ranks",
    "block": "block",
    "capacity_rule": "capacity-rule",
    "drop": "drop",
}
"""Fields of a problem that a user may ask for, those that are asked for most often first, with their options."""

SEVERAL: Final = ("T", "dtype", "mode", "capacity_factor", "ranks")
"""Fields of which `moebench run` takes several values."""

OF_USE: Final = ("dtype", "mode", "capacity_factor", "capacity_rule", "drop", "ranks")
"""Fields that say how a layer is tuned, whatever layer it is."""

AT_ONCE: Final = 2  # fields that are tried together; beyond that, all that have one value
Place = tuple[str, float | str, str]


@dataclass(frozen=True)
class _Attempt:
    """Words of a command after its verb, and what they ask of the suites."""

    words: tuple[str, ...]
    size: Size
    asked: Asked


def reproduction(records: Sequence[Record]) -> Reproduction:
    """Return the commands that measure the records of one suite again on one machine.

    Of records of a suite that this moebench does not have, there is none.
    """
    found = [_of_tuning(group) for group in _tuned(records)] if _is_tuning(records) else _of_runs(records)
    notes = dict.fromkeys(one.note for one in found if one.note)
    return Reproduction(tuple(command for one in found for command in one.commands), " ".join(notes))


def _is_tuning(records: Sequence[Record]) -> bool:
    return all(record.point.suite == TUNING and record.point.stage for record in records)


def _of_runs(records: Sequence[Record]) -> list[Reproduction]:
    """Return a command for each way in which calls were timed."""
    suite = records[0].point.suite
    if suite not in SUITES.names():
        return [Reproduction(note=f"{suite} is no suite of this moebench: what made its records has the command.")]
    ways = itertools.groupby(sorted(records, key=lambda record: record.point.cache), key=lambda one: one.point.cache)
    return [_of_run(suite, cache, list(group)) for cache, group in ways]


def _of_run(suite: str, cache: str, records: list[Record]) -> Reproduction:
    wanted = {_place(record) for record in records}
    best: tuple[tuple[int, int], _Attempt] | None = None
    for attempt in _attempts(_one_for_each_place(records)):
        try:
            points, _ = chosen([suite], attempt.size, attempt.asked)
        except UserError:
            continue
        planned = {(point.place.series, point.place.x, point.place.problem.key) for point in points}
        missed = (len(wanted - planned), len(planned - wanted))
        if best is None or missed < best[0]:
            best = (missed, attempt)
        if missed == (0, 0):
            break
    if best is None or best[0][0] == len(wanted):
        return Reproduction(note=f"No command of this moebench plans any of these points of {suite}: see the records.")
    (missing, more), attempt = best
    timed = [] if cache == "cold" else ["--cache", cache]
    stages = ["--stages"] if any(record.stages for record in records) else []
    device = ["--device", records[0].environment.device_type]
    words = ["moebench", "run", suite, "--size", attempt.size, *attempt.words, *device, *timed, *stages]
    notes = []
    if missing:
        notes.append(f"It plans {len(wanted) - missing} of the {len(wanted)} points: the others had other words.")
    if more:
        notes.append(f"It plans {more} points more: they were left out, or the run was stopped.")
    return Reproduction((shlex.join(words),), " ".join(notes))


def _place(record: Record) -> Place:
    return record.point.series, record.point.x, record.key


def _one_for_each_place(records: Sequence[Record]) -> list[Record]:
    """Return one record for each place, whose kernels solve one problem.

    References and parts of a layer solve another problem than the one that was asked for.
    """
    layers = [record for record in records if record.kernel not in NOT_COMPETING] or records
    return list({_place(record): record for record in layers}.values())


def _attempts(records: Sequence[Record]) -> Iterator[_Attempt]:
    """Yield commands from the plainest on: the suite's own layers before others, few words before many."""
    usual: Size = "small" if records[0].environment.device_type == "cpu" else "full"
    told = [record.point.size for record in records if record.point.size]
    sizes = dict.fromkeys(told) if told else dict.fromkeys((usual, *get_args(Size)))
    values = _asked_values(records)
    few = [names for count in range(AT_ONCE + 1) for names in itertools.combinations(values, count)]
    single = tuple(name for name, several in values.items() if len(several) == 1)
    layers = list(_layers(records))
    for size in sizes:
        for names in dict.fromkeys((*few, single)):
            for layer_words, layer in layers:
                fields = {name: tuple(values[name]) for name in names}
                words = (*layer_words, *itertools.chain(*(_option(name, values[name]) for name in names)))
                yield _Attempt(words, size, Asked(layers=layer, fields=fields))


def _asked_values(records: Sequence[Record]) -> dict[str, list[object]]:
    """Return the values of every field that could have been asked for with one option."""
    found: dict[str, list[object]] = {}
    for name in WORDS:
        values = list(dict.fromkeys(record.problem.get(name) for record in records if name in record.problem))
        if values and (len(values) == 1 or name in SEVERAL):
            found[name] = sorted(values, key=lambda value: (str(type(value)), value if value is not None else 0))
    return {name: values for name, values in found.items() if values != [""]}


def _option(name: str, values: Iterable[object]) -> tuple[str, str]:
    return f"--{WORDS[name]}", ",".join("dropless" if value is None else _number(value) for value in values)


def _number(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _layers(records: Sequence[Record]) -> Iterator[tuple[tuple[str, ...], tuple[Layer, ...]]]:
    """Yield the layers that could have been named, with the options: none, models, scaled models, a shape."""
    yield (), ()
    models = list(dict.fromkeys(record.point.model for record in records))
    named = [name for name in models if name is not None]
    if len(named) == len(models):
        yield from _named(named, None)
        if widths := [width for record in records if isinstance(width := record.problem.get("D"), int)]:
            yield from _named(named, max(widths))
    if None in models:
        # A sweep replaces what is on its axis.
        yield from _shaped([records[0].problem.get(letter) for letter in "DFEK"])


def _named(models: Sequence[str], width: int | None) -> Iterator[tuple[tuple[str, ...], tuple[Layer, ...]]]:
    try:
        layers = tuple(Layer.of(name, T=1, width=width) for name in models)
    except UserError:
        return
    scaled = () if width is None else ("--width", str(width))
    yield (*("--model", ",".join(models)), *scaled), layers


def _shaped(sizes: Sequence[object]) -> Iterator[tuple[tuple[str, ...], tuple[Layer, ...]]]:
    whole = [size for size in sizes if isinstance(size, int)]
    if len(whole) != len("DFEK"):
        return
    D, F, E, K = whole
    text = f"D={D},F={F},E={E},K={K}"
    try:
        yield ("--shape", text), (Layer(name=text.replace(",", ", "), problem=Problem(T=1, D=D, F=F, E=E, K=K)),)
    except UserError:
        return


def _tuned(records: Sequence[Record]) -> list[list[Record]]:
    """Return the records of each search: of one kernel on one layer, searched under one load."""
    groups: dict[tuple[object, ...], list[Record]] = {}
    for record in records:
        layer = {name: value for name, value in record.problem.items() if name not in ("T", "load")}
        groups.setdefault((record.kernel, str(sorted(layer.items(), key=str)), record.point.cache), []).append(record)
    return list(groups.values())


def _of_tuning(records: list[Record]) -> Reproduction:
    searched = [record for record in records if record.point.stage == "search"] or records
    loads = dict.fromkeys(str(record.problem.get("load", "uniform")) for record in searched)
    others = dict.fromkeys(str(record.problem.get("load", "uniform")) for record in records)
    held_out = _tokens(record for record in records if record.point.stage == "held-out")
    tokens = [count for count in _tokens(searched) if count not in held_out] or _tokens(searched)
    layer = _layer_of(records[0])
    if layer is None:
        return Reproduction(note="No command of this moebench names the layer that was tuned: see the records.")
    commands = []
    for load in loads:
        words = ["moebench", "tune", records[0].kernel, *layer, "--tokens", ",".join(map(str, tokens))]
        words += [] if load == "uniform" else ["--load", load]
        words += [word for other in others if other != load for word in ("--other-load", other)]
        words += ["--held-out", ",".join(map(str, held_out))] if held_out else []
        words += ["--device", records[0].environment.device_type]
        words += [] if records[0].point.cache == "cold" else ["--cache", records[0].point.cache]
        commands.append(shlex.join(words))
    return Reproduction(tuple(commands), "Strategy, seed and number of trials are not in the records.")


def _tokens(records: Iterable[Record]) -> list[int]:
    return sorted({count for record in records if isinstance(count := record.problem.get("T"), int)})


def _layer_of(record: Record) -> list[str] | None:
    """Return the options that name the layer of a tuning run with all its fields, None where no words do."""
    fields = {name: value for name, value in record.problem.items() if name in Problem.__dataclass_fields__}
    try:
        problem = Problem(**fields).replace(T=1, load="uniform", seed=0)  # type: ignore[arg-type]
    except (UserError, TypeError):
        return None
    used = {name: getattr(problem, name) for name in OF_USE}
    for words, (layer,) in _tunable(record, problem):
        for named in ((), ("router",)):
            fixed = used | {name: getattr(problem, name) for name in named}
            if layer.problem.replace(**fixed) == problem:
                plain = Problem(T=1, D=1, F=1, E=1, K=1)
                said = {"dtype", *named, *(name for name in used if used[name] != getattr(plain, name))}
                options = [_option(name, [fixed[name]]) for name in WORDS if name in said]
                return [*words, *itertools.chain(*options)]
    return None


def _tunable(record: Record, problem: Problem) -> Iterator[tuple[tuple[str, ...], tuple[Layer, ...]]]:
    """Yield the layers of that width: of the model that a record names, of the shape, of any model."""
    names = [record.point.model] if record.point.model else []
    for name in names:
        yield from _named([name], None)
        yield from _named([name], problem.D)
    yield from _shaped([getattr(problem, letter) for letter in "DFEK"])
    for model in MODELS:
        yield from _named([model.name], problem.D)
