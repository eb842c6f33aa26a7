"""Tuned tables for tests."""

from __future__ import annotations

import math
from collections.abc import Sequence
from importlib import metadata
from typing import Any

import torch

from moebench.kernels.catalog import KERNELS
from moebench.kernels.config import Config
from moebench.kernels.hardware.device_names import device_name
from moebench.kernels.problem import Problem
from moebench.kernels.tuned.source_hash import source_hash
from moebench.kernels.tuned.tuned_table import Bucket, Origin, TableEntry, TunedTable, shape_of

CPU = torch.device("cpu")
PROBLEM = Problem(T=64, D=32, F=64, E=4, K=2)
DEFAULT = KERNELS.load("scatter").space(PROBLEM, CPU)[0]
CONFIGS: tuple[Config, ...] = (DEFAULT, {**DEFAULT, "order": "product"}, {**DEFAULT, "combine": "bag"})
"""Of the space of ``scatter``, its default first."""


def bucket(T: int, times: Sequence[float | None], chosen: int | None = None, **changes: Any) -> Bucket:
    """Return a bucket that chose the fastest or ``chosen``; the default is configuration 0."""
    fastest = min(range(len(times)), key=lambda number: times[number] or math.inf)
    chosen = fastest if chosen is None else chosen
    fields: dict[str, Any] = {
        "T": T,
        "default": 0,
        "chosen": chosen,
        "verdict": "tuned" if chosen else "tie",
        "speedup": 1.25,
        "interval": (1.2, 1.3),
        "noise": 0.01,
        "trials": 12,
        "median_ns": tuple(times),
        "regret": {"zipf:1.2": 0.05},
    }
    return Bucket(**fields | changes)


def entry(*buckets: Bucket, **changes: Any) -> TableEntry:
    fields: dict[str, Any] = {
        "shape": shape_of(PROBLEM),
        "loads": ("uniform",),
        "configs": CONFIGS,
        "buckets": buckets or (bucket(64, [1e6, 5e5, None]), bucket(256, [4e6, 3e6, 2e6])),
    }
    return TableEntry(**fields | changes)


def environment(**changes: Any) -> dict[str, str | int | None]:
    """Return the environment of this machine."""
    here = {"device": device_name(CPU), "driver": None, "torch": metadata.version("torch")}
    return {**here, "triton": metadata.version("triton"), "cores": 2, **changes}


def table(*entries: TableEntry, **changes: Any) -> TunedTable:
    """Return a table of ``scatter`` that is valid on this machine."""
    fields: dict[str, Any] = {
        "kernel": "scatter",
        "source": source_hash("scatter"),
        "cache": "cold",
        "environment": environment(),
        "measured": ("2026-03-01T10:00:00+00:00", "2026-03-01T11:00:00+00:00"),
        "origins": (Origin(file="tune.jsonl", sha256="0" * 64),),
        "entries": entries or (entry(),),
    }
    return TunedTable(**fields | changes)
