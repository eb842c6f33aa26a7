"""A tuned table: which configurations were measured to be fastest, for which problems, and where that holds.

One JSON file, to be read by people and as data: nothing in it is executed or used as a path. A table is derived from
records (`autotune.tables`), never edited.
"""

from __future__ import annotations

import dataclasses
import json
import math
import reprlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

from ...common.errors import UserError
from ..config import Config
from ..problem import Problem

FORMAT: Final = 1
SHAPE: Final = (
    *("D", "F", "E", "K", "gated", "activation", "bias", "dtype", "mode", "capacity_factor", "drop", "router", "ranks"),
    "wire",
)
VALIDITY: Final = ("device", "driver", "torch", "triton")
"""What of its environment a table must share with where it is used, besides the kernel's sources."""

ROBUST_LEAST: Final = 2  # loads that make an entry robust: it holds for them together
WIDTH: Final = 120  # characters of a line
LARGEST: Final = 1e18  # of any number: nanoseconds in thirty years


class InvalidTable(UserError, ValueError):
    """A file that holds no tuned table that this moebench reads; the message says what is wrong with it."""


@dataclass(frozen=True, kw_only=True)
class Bucket:
    """What was decided for ``T`` tokens. Configurations are numbers into the entry's list.

    ``verdict`` is "tuned" where ``chosen`` beat ``default`` by more than the noise, else "tie", and ``chosen`` is
    ``default``. ``speedup`` is the default's median over that of the best candidate, with the ends of its interval,
    also in a tie, where it shows what was not enough; ``noise`` is what it had to exceed 1 by. ``median_ns`` has the
    time of each configuration in one interleaved comparison, None where it was not measured; of a robust entry it is
    the fastest time, averaged geometrically over the loads, times 1 + the worst regret. ``regret`` is how much slower
    than the fastest ``chosen`` is under other loads, or of a robust entry under each of its loads. ``trials`` counts
    the records.
    """

    T: int
    default: int
    chosen: int
    verdict: Literal["tuned", "tie"]
    speedup: float
    interval: tuple[float, float]
    noise: float
    trials: int
    median_ns: tuple[float | None, ...]
    regret: Mapping[str, float]

    def ns(self, config: int) -> float | None:
        """Time of a configuration, None where it was not measured."""
        return self.median_ns[config]


@dataclass(frozen=True, kw_only=True)
class TableEntry:
    """The decisions for one shape: a problem with T = 0 and no load of its own; ``buckets`` ascend in T.

    With one load they are those for it; with several they minimise the worst regret over them.
    """

    shape: Problem
    loads: tuple[str, ...]
    configs: tuple[Config, ...]
    buckets: tuple[Bucket, ...]

    @property
    def robust(self) -> bool:
        return len(self.loads) >= ROBUST_LEAST

    def rows(self, T: int) -> float:
        """Rows per expert of ``T`` tokens."""
        return self.shape.replace(T=T).N / self.shape.E


@dataclass(frozen=True, kw_only=True)
class Origin:
    """A file of records that a table was derived from: its name, without folders, and its sha256."""

    file: str
    sha256: str


@dataclass(frozen=True, kw_only=True)
class TunedTable:
    """The decisions for one kernel on one device. ``measured``: when the first and the last record were made.

    ``source`` is the `source.source_hash` of the kernel, ``environment`` the one of its records; ``cache`` says whether
    caches were flushed before each sample.
    """

    kernel: str
    source: str
    cache: Literal["cold", "hot"]
    environment: Mapping[str, str | int | None]
    measured: tuple[str, str]
    origins: tuple[Origin, ...]
    entries: tuple[TableEntry, ...]

    def differs(self, source: str, here: Mapping[str, str | None]) -> list[str]:
        """In what a use differs from what was measured, as ``name: in the table / here``; empty where it is valid."""
        both = [("source", self.source, source), *((name, self.environment[name], here[name]) for name in VALIDITY)]
        return [f"{name}: {then} / {now}" for name, then, now in both if then != now]

    def text(self) -> str:
        """As the content of its file: what fits one line is on one."""
        return _layout(
            {
                "moebench_table": FORMAT,
                "kernel": self.kernel,
                "source": self.source,
                "cache": self.cache,
                "environment": dict(self.environment),
                "measured": list(self.measured),
                "records": [dataclasses.asdict(origin) for origin in self.origins],
                "entries": [_plain(entry) for entry in self.entries],
            }
        )

    @staticmethod
    def parse(text: bytes | str) -> TunedTable:
        """Read what `text` wrote.

        Raises:
            InvalidTable: for anything else.
        """
        try:
            data = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise InvalidTable(f"it is not JSON: {type(error).__name__}: {error}") from None
        version = _mapping(data, "the file").get("moebench_table")
        if version != FORMAT:
            raise InvalidTable(f"moebench_table = {_short(version)}, this moebench reads {FORMAT}")
        measured = tuple(_text(time, "measured") for time in _list(_of(data, "measured"), "measured", length=2))
        return TunedTable(
            kernel=_text(_of(data, "kernel"), "kernel"),
            source=_text(_of(data, "source"), "source"),
            cache="hot" if _of(data, "cache") == "hot" else "cold",
            environment=_environment(_of(data, "environment")),
            measured=(measured[0], measured[1]),
            origins=tuple(_origin(one) for one in _list(_of(data, "records"), "records")),
            entries=tuple(_entry(one) for one in _list(_of(data, "entries"), "entries")),
        )


def shape_of(problem: Problem) -> Problem:
    """The part of a problem that an entry is for: without tokens, load and seed."""
    return problem.replace(T=0, load="uniform", seed=0)


def _plain(entry: TableEntry) -> dict[str, object]:
    buckets = [
        {"T": bucket.T, "rows_per_expert": entry.rows(bucket.T)} | dataclasses.asdict(bucket)
        for bucket in entry.buckets
    ]
    return {
        "shape": {name: getattr(entry.shape, name) for name in SHAPE},
        "loads": list(entry.loads),
        "configs": [dict(config) for config in entry.configs],
        "buckets": buckets,
    }


def _layout(value: object, indent: str = "", before: int = 0) -> str:
    """JSON with what does not fit a line spread over lines; ``before`` characters stand before it."""
    line = json.dumps(value, allow_nan=False)
    if before + len(line) <= WIDTH or not isinstance(value, dict | list | tuple):
        return line
    if isinstance(value, dict):
        parts, ends = [(f"{json.dumps(name)}: ", part) for name, part in value.items()], "{}"
    else:
        parts, ends = [("", part) for part in value], "[]"
    deeper = f"{indent}  "
    lines = ",\n".join(f"{deeper}{name}{_layout(part, deeper, len(deeper) + len(name) + 1)}" for name, part in parts)
    return f"{ends[0]}\n{lines}\n{indent}{ends[1]}"


# What follows trusts nothing: a table may come from anywhere.


def _environment(value: object) -> dict[str, str | int | None]:
    found = _mapping(value, "environment")
    for name in VALIDITY:
        if not isinstance(_of(found, name), str | None):
            raise InvalidTable(f"environment.{name} is {_short(found[name])}, not a word")
    environment: dict[str, str | int | None] = {}
    for name, fact in found.items():
        if not isinstance(fact, str | int | None):
            raise InvalidTable(f"environment {_short(name)} is {_short(fact)}, not a word or number")
        environment[name] = fact
    return environment


def _origin(value: object) -> Origin:
    return Origin(file=_text(_of(value, "file"), "file"), sha256=_text(_of(value, "sha256"), "sha256"))


def _entry(value: object) -> TableEntry:
    shape = _mapping(_of(value, "shape"), "shape")
    if set(shape) != set(SHAPE):
        raise InvalidTable(f"shape has the fields {_short(sorted(shape))}, not {', '.join(SHAPE)}")
    try:
        problem = Problem(T=0, **shape)  # type: ignore[arg-type]  # checked in its __post_init__
    except (ValueError, TypeError) as error:
        raise InvalidTable(str(error)) from None
    configs = tuple(_config(one) for one in _list(_of(value, "configs"), "configs"))
    buckets = tuple(_bucket(one, len(configs)) for one in _list(_of(value, "buckets"), "buckets"))
    tokens = [bucket.T for bucket in buckets]
    if not tokens or tokens != sorted(set(tokens)):
        raise InvalidTable(f"buckets have T = {_short(tokens)}, which must ascend")
    loads = tuple(_text(load, "load") for load in _list(_of(value, "loads"), "loads"))
    if not loads:
        raise InvalidTable("an entry has no loads")
    return TableEntry(shape=problem, loads=loads, configs=configs, buckets=buckets)


def _config(value: object) -> Config:
    config: dict[str, int | float | str | bool] = {}
    for name, choice in _mapping(value, "a configuration").items():
        if not isinstance(choice, int | float | str) or (isinstance(choice, float) and not math.isfinite(choice)):
            raise InvalidTable(f"configuration {_short(name)} = {_short(choice)} is no number, word, or yes or no")
        config[name] = choice
    return config


def _bucket(value: object, configs: int) -> Bucket:
    verdict = _of(value, "verdict")
    low, high = (_number(end, "interval") for end in _list(_of(value, "interval"), "interval", length=2))
    times = _list(_of(value, "median_ns"), "median_ns", length=configs)
    bucket = Bucket(
        T=_count(_of(value, "T"), "T"),
        default=_count(_of(value, "default"), "default"),
        chosen=_count(_of(value, "chosen"), "chosen"),
        verdict="tuned" if verdict == "tuned" else "tie",
        speedup=_number(_of(value, "speedup"), "speedup"),
        interval=(low, high),
        noise=_number(_of(value, "noise"), "noise"),
        trials=_count(_of(value, "trials"), "trials"),
        median_ns=tuple(None if time is None else _number(time, "median_ns") for time in times),
        regret={name: _number(regret, "regret") for name, regret in _mapping(_of(value, "regret"), "regret").items()},
    )
    if verdict not in ("tuned", "tie"):
        raise InvalidTable(f"verdict = {_short(verdict)} is neither tuned nor tie")
    if bucket.T < 1:
        raise InvalidTable("a bucket has T = 0")
    for name, number in (("default", bucket.default), ("chosen", bucket.chosen)):
        if number >= configs or not bucket.median_ns[number]:
            raise InvalidTable(f"{name} = {number} at T = {bucket.T} is no configuration that was measured")
    if any(time is not None and time <= 0 for time in bucket.median_ns):
        raise InvalidTable(f"median_ns at T = {bucket.T} has a time that is not above 0")
    return bucket


def _of(value: object, name: str) -> object:
    found = _mapping(value, f"what should hold {name}")
    if name not in found:
        raise InvalidTable(f"{name} is missing")
    return found[name]


def _mapping(value: object, name: str) -> dict[str, object]:
    if not isinstance(value, dict):
        raise InvalidTable(f"{name} is {_short(value)}, not an object")
    return value


def _list(value: object, name: str, length: int | None = None) -> list[object]:
    if not isinstance(value, list) or length not in (None, len(value)):
        raise InvalidTable(f"{name} is {_short(value)}, not a list{f' of {length}' if length is not None else ''}")
    return value


def _text(value: object, name: str) -> str:
    if not isinstance(value, str):
        raise InvalidTable(f"{name} is {_short(value)}, not a word")
    return value


def _number(value: object, name: str) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value < LARGEST:
        raise InvalidTable(f"{name} is {_short(value)}, not a number from 0 to {LARGEST:g}")
    return float(value)


def _count(value: object, name: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < LARGEST:
        raise InvalidTable(f"{name} is {_short(value)}, not a whole number from 0 to {LARGEST:g}")
    return value


def _short(value: object) -> str:
    """A value of unknown origin, for a message: cut short, control characters escaped."""
    return reprlib.repr(value)
