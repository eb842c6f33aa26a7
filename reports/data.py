"""The answers for machines: points, medians and the ratios that people quote, as plain data."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import JsonValue

from ..results.record import Record, Status
from ..results.references import REFERENCES
from .section import Section, sections
from .table import Row, RowPlace, places

PEER = "peer"


def points(records: Sequence[Record]) -> list[JsonValue]:
    """Every point of every suite: its kernels' medians in ms with 95 % intervals, and the ratios between them.

    ``ratios`` divides medians: ``peer_over_best`` is the fastest peer over the fastest of our own, above 1 where ours
    is faster; ``baseline_over_best`` likewise; ``rate_over_matmul`` and ``rate_over_dense`` are the fastest's useful
    FLOP/s over those of a reference. A ratio is there only where both of its sides passed.
    """
    return [
        _point(section, place, rows) for section in sections(records) for place, rows in places(section.rows).items()
    ]


def _point(section: Section, place: RowPlace, rows: list[Row]) -> JsonValue:
    return {
        "suite": section.suite,
        "device": section.machine.label,
        "series": place.facet.series,
        "x": place.x,
        "dtype": place.facet.dtype,
        "mode": place.facet.mode,
        "kernels": {row.kernel: _kernel(row) for row in rows},
        "ratios": _ratios(section, rows),
    }


def _kernel(row: Row) -> JsonValue:
    if row.median is None:
        return {"status": row.record.status.value, "reason": row.reason}
    return {
        "status": Status.passed.value,
        "median_ms": row.median.value,
        "low_ms": row.median.low,
        "high_ms": row.median.high,
        "useful_tflop_per_s": row.tflops,
        "share_of_bound": row.share,
        "launches": row.record.launches.model_dump() if row.record.launches else None,
    }


def _ratios(section: Section, rows: list[Row]) -> dict[str, JsonValue]:
    times = {row.kernel: row.median.value for row in rows if row.median}
    ours = [row for row in rows if row.competes and row.record.family != PEER]
    if not ours:
        return {}
    best = min(ours, key=lambda row: times[row.kernel])
    ratios: dict[str, JsonValue] = {"best": best.kernel}
    if peers := [times[row.kernel] for row in rows if row.passed and row.record.family == PEER]:
        ratios["peer_over_best"] = min(peers) / times[best.kernel]
    if section.baseline in times:
        ratios["baseline_over_best"] = times[section.baseline] / times[best.kernel]
    shares = {f"rate_over_{name}": best.rate_over(name) for name in REFERENCES}
    return ratios | {name: share for name, share in shares.items() if share is not None}
