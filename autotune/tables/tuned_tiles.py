"""Layers of a tuned table in the form that `export` takes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from ...kernels.problem import Problem
from ...kernels.tuned.tuned_table import TableEntry, TunedTable
from .export import NotExportable, Tuned


def tuned(table: TunedTable, load: str | None = None) -> list[Tuned]:
    """Return the layers of a table, each under one load: ``load``, else the robust choice, uniform or the only one.

    Raises:
        NotExportable: when nothing was tuned under that load, or several loads are possible.
    """
    by_shape: dict[Problem, list[TableEntry]] = defaultdict(list)
    for entry in table.entries:
        by_shape[entry.shape].append(entry)
    return [_tuned(table, _under(entries, load)) for entries in by_shape.values()]


def _under(entries: Iterable[TableEntry], load: str | None) -> TableEntry:
    by_load = {"robust" if entry.robust else entry.loads[0]: entry for entry in entries}
    wanted = (load,) if load else ("robust", "uniform", *(by_load if len(by_load) == 1 else ()))
    for name in wanted:
        if name in by_load:
            return by_load[name]
    asked = f"load {load}" if load else "load robust or uniform"
    raise NotExportable(f"nothing was tuned under {asked}: there are {', '.join(by_load)}, one of which --load takes")


def _tuned(table: TunedTable, entry: TableEntry) -> Tuned:
    shape, environment = entry.shape, table.environment
    triton = environment["triton"]
    return Tuned(
        kernel=table.kernel,
        device=str(environment["device"]),
        triton=None if triton is None else str(triton),
        dtype=shape.dtype,
        E=shape.E,
        F=shape.F,
        D=shape.D,
        K=shape.K,
        configs={bucket.T: entry.configs[bucket.chosen] for bucket in entry.buckets},
        about={
            "loads": list(entry.loads),
            "cache": table.cache,
            "measured": list(table.measured),
            "environment": dict(environment),
            "source": table.source,
        },
    )
