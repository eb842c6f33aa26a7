"""The names of benchmarks, and what is kept beside their times: pytest-benchmark's view of records.

A benchmark is one implementation at one place of a suite. It has the same name whether `pytest suites` measured it or
`moebench export` writes it, so that either can be compared with the other.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from pydantic import JsonValue

from .record import Point, Record

# Other characters of a record stay out of names, which end up on terminals, in file names and in Markdown.
UNSAFE: Final = re.compile(r"[^A-Za-z0-9 .,=+_-]")
LONGEST: Final = 200


def place_of(point: Point, problem: Mapping[str, JsonValue]) -> str:
    """Return the name of a benchmark's place in its suite; no two places of a suite have the same."""
    x = point.x if isinstance(point.x, str) else f"{point.x:g}"
    return safe(f"{point.line}, {x}, {problem.get('dtype')} {problem.get('mode')}")


def group_of(suite: str, place: str) -> str:
    """Return the name of the group of benchmarks that are compared with each other."""
    return f"{suite}, {place}"


def extra_info(record: Record) -> dict[str, JsonValue]:
    """Return what pytest-benchmark keeps beside the times: the kernel, how it was timed, and its counters."""
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
            "cold": record.timing.cold,
            "stopped": record.timing.stopped,
            "throttled": record.timing.throttled,
            "disturbed": record.timing.disturbed,
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


def identifier(record: Record) -> str:
    """Return what pytest puts between the brackets of a test's name: the parameters of the test."""
    parts = (record.point.suite, place_of(record.point, record.problem), record.kernel)
    return "-".join(safe(part) for part in parts)


def safe(text: str) -> str:
    """Return a text as a part of a name: short, and without characters that mean something elsewhere."""
    return UNSAFE.sub("_", text)[:LONGEST]
