"""Records for tests of the modules that store and read them."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from moebench.results.record import (
    SCHEMA,
    Clocks,
    Environment,
    Error,
    Memory,
    Phases,
    Point,
    Record,
    Roofline,
    Status,
    Timing,
    Traffic,
    Work,
)
from moebench.results.record.record import LARGEST, SMALLEST

ENVIRONMENT = Environment(
    device="a CPU",
    device_type="cpu",
    cores=4,
    threads=2,
    memory_bytes=2**34,
    os="Linux 6.1",
    python="3.11.9",
    torch="2.8.0",
    moebench="0.1.0",
)
TIMING = Timing(clock="perf_counter", cache="cold", samples_ns=[3.0, 1.0, 2.0], stopped="settled")


def record(x: float = 1.0, **changes: Any) -> Record:
    """Return a record that passed, at ``x`` of its suite."""
    fields: dict[str, Any] = {
        "schema_version": SCHEMA,
        "point": Point(suite="test", question="Does it?", axis="x", series="s", x=x, baseline="loop"),
        "key": f"T{x}",
        "problem": {"T": x},
        "kernel": "loop",
        "family": "baseline",
        "config": {},
        "status": Status.passed,
        "timing": TIMING,
        "environment": ENVIRONMENT,
        "commit": "0123abc",
        "time": "2026-03-01T10:00:00+00:00",
    }
    return Record(**fields | changes)


COUNTS = st.integers(0, 2**63)
POSITIVE = st.floats(SMALLEST, float(LARGEST))
AMOUNTS = st.floats(0, float(LARGEST))
FINITE = st.floats(-float(LARGEST), float(LARGEST))
VALUES = st.one_of(st.integers(-LARGEST, LARGEST), FINITE, st.text(), st.booleans())
POINTS = st.builds(Point, x=st.one_of(FINITE, st.text().filter(lambda text: not _is_number(text))))
WORKS = st.builds(
    Work,
    useful_flops=COUNTS,
    executed_flops=COUNTS,
    ideal_bytes=COUNTS,
    routed_rows=COUNTS,
    kept_rows=COUNTS,
    capacity=st.none() | COUNTS,
)
TIMINGS = st.builds(Timing, samples_ns=st.lists(POSITIVE, min_size=1))
TRAFFICS = st.builds(
    Traffic,
    ranks_per_node=COUNTS,
    **{name: st.lists(COUNTS, max_size=3) for name in Traffic.model_fields if name != "ranks_per_node"},
)
ENVIRONMENTS = st.builds(
    Environment,
    cores=COUNTS,
    threads=COUNTS,
    memory_bytes=COUNTS,
    triton=st.none() | st.text(),
    driver=st.none() | st.text(),
)
ERRORS = st.dictionaries(st.text(), st.builds(Error, norm=st.floats(), worst_row=st.floats()), max_size=3)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def records() -> st.SearchStrategy[Record]:
    """Draw any record: every status, any text and number, errors that are not finite, any part missing."""
    endings = st.one_of(
        st.fixed_dictionaries({"status": st.just(Status.passed), "timing": TIMINGS}),
        st.fixed_dictionaries(
            {"status": st.sampled_from([s for s in Status if s is not Status.passed]), "reason": st.text(min_size=1)}
        ),
    )
    parts = st.fixed_dictionaries(
        {
            "point": POINTS,
            "key": st.text(),
            "problem": st.dictionaries(st.text(), st.none() | VALUES, max_size=3),
            "config": st.dictionaries(st.text(), VALUES, max_size=3),
            "errors": ERRORS,
            "memory": st.none() | st.builds(Memory, peak=COUNTS, saved=COUNTS),
            "work": st.none() | WORKS,
            "roofline": st.none() | st.builds(Roofline, flops_per_s=POSITIVE, bytes_per_s=POSITIVE),
            "traffic": st.none() | TRAFFICS,
            "phases": st.none()
            | st.builds(Phases, **dict.fromkeys(Phases.model_fields, st.lists(AMOUNTS, max_size=3))),
            "clocks": st.none() | st.builds(Clocks, power_w=AMOUNTS, energy_j=st.none() | AMOUNTS),
            "environment": ENVIRONMENTS,
            "wall_s": AMOUNTS,
        }
    )
    return st.builds(lambda part, ending: record(**{"timing": None, **part, **ending}), parts, endings)
