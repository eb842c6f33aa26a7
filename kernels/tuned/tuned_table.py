"""Tuned tables: the fastest measured configurations of a kernel, for which problems, and where they are valid.

A table is one JSON file that people can read; nothing in it is executed or used as a path. It is derived from records
(`autotune.tables`) and never edited; `table_reader` reads it.
"""

from __future__ import annotations

import dataclasses
import json
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
"""The part of its environment that a table must share with the place where it is used, besides the kernel's sources."""

UNKNOWN_DRIVER: Final = "driver: unknown / unknown, which may be two: pip install nvidia-ml-py, which tells it"

ROBUST_LEAST: Final = 2  # loads of a robust entry, at least: it is valid for them together
WIDTH: Final = 120  # characters of a line


class InvalidTable(UserError, ValueError):
    """The content of a file is no tuned table that this moebench reads; the message says why."""


@dataclass(frozen=True, kw_only=True)
class Bucket:
    """The decision for ``T`` tokens. Configurations are indices into the list of the entry.

    ``verdict`` is "tuned" where ``chosen`` beat ``default`` by more than the noise, else "tie", and ``chosen`` equals
    ``default``. ``speedup`` is the default's median over that of the best candidate, with the ends of its interval, in
    a tie too; it had to exceed 1 by ``noise``. ``median_ns`` has the time of each configuration in one interleaved
    comparison, None where it was not measured. In a robust entry it is the fastest time, averaged geometrically over
    the loads, times 1 + the worst regret. ``regret`` is how much slower than the fastest ``chosen`` is under other
    loads, and in a robust entry under each of its loads. ``trials`` counts the records.
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
        """Return the time of a configuration in nanoseconds, None where it was not measured."""
        return self.median_ns[config]


@dataclass(frozen=True, kw_only=True)
class TableEntry:
    """The decisions for one shape, a problem with T = 0 and the default load; ``buckets`` ascend in T.

    With one load they are the decisions for that load; with several they minimise the worst regret over them.
    """

    shape: Problem
    loads: tuple[str, ...]
    configs: tuple[Config, ...]
    buckets: tuple[Bucket, ...]

    @property
    def robust(self) -> bool:
        return len(self.loads) >= ROBUST_LEAST

    def rows(self, T: int) -> float:
        """Return the rows per expert of ``T`` tokens."""
        return self.shape.replace(T=T).N / self.shape.E


@dataclass(frozen=True, kw_only=True)
class Origin:
    """A file of records that a table was derived from: its name, without folders, and its sha256."""

    file: str
    sha256: str


@dataclass(frozen=True, kw_only=True)
class TunedTable:
    """The decisions for one kernel on one device.

    ``source`` is the `source_hash` of the kernel and ``environment`` that of its records. ``cache`` is "cold" where
    caches were flushed before each sample. ``measured`` holds the times of the first and the last record.
    """

    kernel: str
    source: str
    cache: Literal["cold", "hot"]
    environment: Mapping[str, str | int | None]
    measured: tuple[str, str]
    origins: tuple[Origin, ...]
    entries: tuple[TableEntry, ...]

    def differs(self, source: str, here: Mapping[str, str | None]) -> list[str]:
        """Return the differences to a use as ``name: in the table / here``; empty where the table is valid.

        A driver that neither knows may be another one; only GPUs have drivers.
        """
        both = [("source", self.source, source), *((name, self.environment[name], here[name]) for name in VALIDITY)]
        found = [f"{name}: {then} / {now}" for name, then, now in both if then != now]
        if self.environment.get("device_type") == "cuda" and self.environment["driver"] is here["driver"] is None:
            found.append(UNKNOWN_DRIVER)
        return found

    def text(self) -> str:
        """Return the content of its file: a value that fits a line is on one line."""
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


def shape_of(problem: Problem) -> Problem:
    """Return the part of a problem that an entry is for: without tokens, load and seed."""
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
    """Return JSON with long values spread over lines; the first line already has ``before`` characters."""
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
