"""The static model beside a sweep: how well its order agrees with the measured one, and how far its times are off."""

from __future__ import annotations

import json
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path

from scipy.stats import spearmanr

from ....autotune.search.candidates import predictions_of
from ....autotune.search.recorded_sweep import RecordedSweep, recorded_sweeps
from ....results.record.store import load

FEWEST = 3  # numbers that have an order worth a word


def main() -> None:
    """Arguments: the file of a sweep's records, and the JSON file to write."""
    records, path = map(Path, sys.argv[1:])
    found = [compared(sweep) for sweep in recorded_sweeps(load(records).records)]
    if not found:
        sys.exit(f"{records}: no sweep in it whose default was measured")
    path.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    for one in found:
        print(", ".join(f"{name} {value}" for name, value in one.items() if not isinstance(value, list)))  # noqa: T201  # the log


def compared(sweep: RecordedSweep) -> dict[str, object]:
    """Compare one sweep with the model: rank correlation, place of the best in the modelled order, pairs of times."""
    told: dict[str, object] = {"kernel": sweep.space.kernel, "problem": sweep.key, "configurations": len(sweep.space)}
    predicted, timing = predictions_of(sweep), sweep.default.timing
    if predicted is None or timing is None:
        return {**told, "reason": f"there is no static model of {sweep.space.kernel} here"}
    default_ms = statistics.median(timing.samples_ns) / 1e6
    measured = [index for index, tries in enumerate(sweep.pairs) if tries]
    expected_ms = [1e3 * predicted[index] for index in measured]
    measured_ms = [default_ms * sweep.score(index) for index in measured]
    ratios = [true / expected for true, expected in zip(measured_ms, expected_ms, strict=True)]
    return {
        **told,
        "measured": len(measured),
        "rank_correlation": correlation(expected_ms, measured_ms),
        "best_in_top": round(sweep.share_to_keep(predicted), 3),
        "median_measured_over_predicted": round(statistics.median(ratios), 3),
        "pairs": [
            {
                "predicted_ms": round(expected, 4),
                "measured_ms": round(true, 4),
                "config": dict(sweep.space.configs[index]),
            }
            for index, expected, true in zip(measured, expected_ms, measured_ms, strict=True)
        ],
    }


def correlation(one: Sequence[float], other: Sequence[float]) -> float | None:
    """Spearman's rank correlation; None where a constant or too few numbers have none."""
    if len(one) < FEWEST or 1 in (len(set(one)), len(set(other))):
        return None
    return round(float(spearmanr(one, other).statistic), 3)


if __name__ == "__main__":
    main()
