"""Tuned tables beside the code: the configuration of the nearest batch that was tuned for a shape on a device."""

from __future__ import annotations

import math
from functools import lru_cache
from pathlib import Path

from ...kernels.config import Config
from ...kernels.problem import Problem
from ...kernels.tuned.table_reader import parse_table
from ...kernels.tuned.tuned_table import Bucket, TableEntry, TunedTable, shape_of

FOLDER = "tables"


def tuned_config(problem: Problem, kernel: str, device: str) -> Config | None:
    """Return the configuration for a problem on a device of this name, None where no table has the shape.

    Between two batches it is that of the nearest by ratio. Unlike a layer of an installed moebench, a table is used
    whatever version of the driver, torch or Triton it was measured with, as other kernels of the hub use theirs.
    """
    if problem.T == 0:
        return None
    for table in tables(Path(__file__).parents[2] / FOLDER):
        if (table.kernel, table.environment.get("device")) == (kernel, device):
            for entry in table.entries:
                if entry.loads == ("uniform",) and entry.shape == shape_of(problem):
                    return _nearest(entry, problem.T)
    return None


def _nearest(entry: TableEntry, T: int) -> Config:
    def distance(bucket: Bucket) -> float:
        return abs(math.log(bucket.T / T))

    return entry.configs[min(entry.buckets, key=distance).chosen]


@lru_cache(maxsize=8)
def tables(folder: Path) -> tuple[TunedTable, ...]:
    """Return the tables of a folder, read once."""
    return tuple(parse_table(path.read_bytes()) for path in sorted(folder.glob("*.json")))
