"""The points of a report as plain data for machines: medians, measures and the ratios that people quote."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import JsonValue

from ..results.record import Status
from ..results.references import REFERENCES
from .measures import values
from .report import Report
from .row import Row, RowPlace, leading, places
from .section import Section

PEER = "peer"


def document(report: Report) -> dict[str, JsonValue]:
    """Return the whole report: its points, and the sentences about what could not be read."""
    return {"points": points(report.sections), "problems": list(report.problems)}


def points(sections: Sequence[Section]) -> list[JsonValue]:
    """Return every point of every section: the measures of its kernels, and the ratios between them.

    ``ratios`` divides medians: ``peer_over_best`` is the fastest peer over the fastest of our own, above 1 where ours
    is faster; ``baseline_over_best`` likewise; ``rate_over_matmul`` and ``rate_over_dense`` are the fastest's useful
    FLOP/s over those of a reference. A ratio exists only where both of its sides passed. Of several configurations of a
    kernel at one point, the fastest counts.
    """
    return [_point(section, place, rows) for section in sections for place, rows in places(section.rows).items()]


def _point(section: Section, place: RowPlace, rows: list[Row]) -> JsonValue:
    return {
        "suite": section.suite,
        "device": section.machine.label,
        "series": place.facet.series,
        "x": place.x,
        "dtype": place.facet.dtype,
        "mode": place.facet.mode,
        "kernels": {kernel: _kernel(row) for kernel, row in leading(rows).items()},
        "ratios": _ratios(section.baseline, list(leading(rows).values())),
    }


def _kernel(row: Row) -> JsonValue:
    if not row.passed:
        return {"status": row.record.status.value, "reason": row.reason}
    launches = row.record.launches
    return {
        "status": Status.passed.value,
        **values(row),
        "launches": launches.model_dump() if launches else None,
    }


def _ratios(baseline: str, rows: list[Row]) -> dict[str, JsonValue]:
    times = {row.kernel: row.median.value for row in rows if row.median}
    ours = [row for row in rows if row.competes and row.record.family != PEER]
    if not ours:
        return {}
    best = min(ours, key=lambda row: times[row.kernel])
    ratios: dict[str, JsonValue] = {"best": best.kernel}
    if peers := [times[row.kernel] for row in rows if row.passed and row.record.family == PEER]:
        ratios["peer_over_best"] = min(peers) / times[best.kernel]
    if baseline in times:
        ratios["baseline_over_best"] = times[baseline] / times[best.kernel]
    shares = {f"rate_over_{name}": best.rate_over(name) for name in REFERENCES}
    return ratios | {name: share for name, share in shares.items() if share is not None}
