"""Records as pytest-benchmark has them: the names of benchmarks, what is told beside their times, and its JSON.

A benchmark is one implementation at one place of a suite. It has the same name whether `pytest suites` measured it or
`moebench export` writes it, so that either can be compared with the other.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final

from pydantic import JsonValue
from pydantic_core import to_json

from ..common.errors import UserError
from .record import Point, Record

TEST: Final = "test_dispatch"
FILE: Final = "suites/bench_dispatch.py"
# What else a record may hold stays out of names, which end up on terminals, in file names and in Markdown.
UNSAFE: Final = re.compile(r"[^A-Za-z0-9 .,=+_-]")
LONGEST: Final = 200
TIMES_NS: Final = (1e-3, 1e18)  # from a picosecond to thirty years: what is not between is no measurement


class BenchmarkError(UserError, ValueError):
    """Records that are no benchmarks of one machine; the message says which, and the remedy."""


def place_of(point: Point, problem: Mapping[str, JsonValue]) -> str:
    """Where in its suite a benchmark stands, in words; no two places of a suite are the same."""
    x = point.x if isinstance(point.x, str) else f"{point.x:g}"
    return _safe(f"{point.line}, {x}, {problem.get('dtype')} {problem.get('mode')}")


def group_of(suite: str, place: str) -> str:
    """Of the benchmarks that are compared with each other."""
    return f"{suite}, {place}"


def extra_info(record: Record) -> dict[str, JsonValue]:
    """What pytest-benchmark keeps beside the times: of whom they are, how they were taken, and what is counted."""
    found: dict[str, JsonValue] = {
        "kernel": record.kernel,
        "family": record.family,
        "problem": record.key,
        "config": record.config,
        "device": record.environment.device,
        "commit": record.commit,
    }
    if record.timing is not None:
        found |= {
            "clock": record.timing.clock,
            "cache": record.timing.cache,
            "stopped": record.timing.stopped,
            "throttled": record.timing.throttled,
        }
    if record.work is not None:
        found |= {
            "useful_flops": record.work.useful_flops,
            "executed_flops": record.work.executed_flops,
            "ideal_bytes": record.work.ideal_bytes,
            "drop_rate": record.work.drop_rate,
        }
        if record.roofline is not None:
            found["lower_bound_s"] = record.roofline.bound_ns(record.work) / 1e9
    if record.memory is not None:
        found |= {"peak_bytes": record.memory.peak, "saved_bytes": record.memory.saved}
    found["traffic_bytes"] = sum(record.sent_bytes)
    if record.traffic is not None:
        found |= {
            "node_bytes": sum(record.traffic.node_bytes),
            "across_bytes": sum(record.traffic.across_bytes),
            "messages": sum(record.traffic.messages),
        }
    return found


def document(records: Sequence[Record]) -> str:
    """The JSON that ``pytest --benchmark-json`` would have written, for the records that passed.

    Raises:
        BenchmarkError: when none has passed, when they are of several machines, or when a sample is no time.
        ImportError: where pytest-benchmark is not installed, whose statistics these are.
    """
    passed = [record for record in records if record.timing is not None]
    if not passed:
        raise BenchmarkError("none of the records has passed: there is nothing to export")
    last = passed[-1]
    for record in passed:
        if differences := record.environment.differs(last.environment):
            raise BenchmarkError(
                f"the records are of several environments ({'; '.join(differences)}): export each on its own"
            )
    names = Counter(_identifier(record) for record in passed)
    from pytest_benchmark import __version__  # noqa: PLC0415  # an optional dependency

    commit, dash, _ = last.commit.partition("-")
    for record in passed:
        if record.timing is not None and not all(TIMES_NS[0] <= ns <= TIMES_NS[1] for ns in record.timing.samples_ns):
            raise BenchmarkError(f"the samples of {_identifier(record)} are no times: measure it again")
    found: dict[str, object] = {
        "machine_info": last.environment.model_dump(),
        "commit_info": {"id": commit, "time": last.time, "dirty": bool(dash), "project": "moebench"},
        "benchmarks": [_benchmark(record, several=names[_identifier(record)] > 1) for record in passed],
        "datetime": last.time,
        "version": __version__,
    }
    return to_json(found, indent=1, inf_nan_mode="null").decode()


def _benchmark(record: Record, *, several: bool) -> dict[str, object]:
    """One entry; with ``several`` configurations of an implementation at one place, its name tells which."""
    which = "".join(f" {name}={value}" for name, value in record.config.items()) if several else ""
    identifier = _safe(f"{_identifier(record)}{which}")
    suite, place = _safe(record.point.suite), place_of(record.point, record.problem)
    return {
        "group": group_of(suite, place),
        "name": f"{TEST}[{identifier}]",
        "fullname": f"{FILE}::{TEST}[{identifier}]",
        "params": {"suite": suite, "place": place, "kernel": _safe(record.kernel)},
        "param": identifier,
        "extra_info": extra_info(record),
        "options": {},
        "stats": _stats(record),
    }


def _stats(record: Record) -> dict[str, object]:
    from pytest_benchmark.stats import Stats  # noqa: PLC0415  # an optional dependency

    stats = Stats()
    for sample_ns in record.timing.samples_ns if record.timing else ():
        stats.update(sample_ns / 1e9)
    return {**stats.as_dict(), "data": stats.data, "iterations": 1}


def _identifier(record: Record) -> str:
    """What pytest puts between brackets: the parameters of the test."""
    parts = (record.point.suite, place_of(record.point, record.problem), record.kernel)
    return "-".join(_safe(part) for part in parts)


def _safe(text: str) -> str:
    return UNSAFE.sub("_", text)[:LONGEST]
