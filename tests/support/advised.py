"""Records, requests and times for tests of advice."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from records import record

from moebench.kernels.problem import Problem
from moebench.results.record import Memory, Point, Record, Timing
from moebench.results.record.store import load
from moebench.suites.advice.advised_device import AdvisedDevice
from moebench.suites.advice.adviser import AdviceRequest
from moebench.suites.advice.traffic_mix import parse_traffic
from moebench.suites.layer import Layer

RECORDED = Path(__file__).resolve().parents[2] / "results/recorded"
PROBLEM = Problem(T=1, D=32, F=64, E=4, K=2)
ELSEWHERE = AdvisedDevice(name="a CPU", kind="cpu", here=False, memory_bytes=2**34)
"""The device of the records here, which is no machine."""


def recorded(name: str) -> list[Record]:
    """Return the committed records of a file."""
    return load(RECORDED / name).records


def timed(kernel: str, T: int, ms: float, *, spread: float = 0.001, at: int = 0, **changes: Any) -> Record:
    """Return a record of twenty samples around a median, made ``at`` a minute; records of equal T were made in turn."""
    cache = changes.pop("cache", "cold")
    problem = PROBLEM.replace(T=T, **changes.pop("problem", {}))
    samples = [1e6 * ms * (1 + spread * (number - 9.5) / 9.5) for number in range(20)]
    fields: dict[str, Any] = {
        "kernel": kernel,
        "key": problem.key,
        "problem": dataclasses.asdict(problem),
        "timing": Timing(clock="perf_counter", cache=cache, samples_ns=samples, stopped="settled"),
        "memory": Memory(peak=1000 * T, saved=0),
        "point": Point(suite="tokens", question="?", axis="T", series="s", x=float(T), baseline="loop", cache=cache),
        "time": f"2026-03-01T10:{at:02d}:00+00:00",
    }
    return record(**fields | changes)


def request(traffic: str, *records: Record, **changes: Any) -> AdviceRequest:
    """Return a request for the layer of `timed` on the device of the records."""
    fields: dict[str, Any] = {
        "layer": Layer(name="a layer", problem=PROBLEM),
        "problem": PROBLEM,
        "model": None,
        "traffic": parse_traffic(traffic),
        "device": ELSEWHERE,
        "records": records,
    }
    return AdviceRequest(**fields | changes)
