"""Comparison of the static model with a sweep: how well the orders agree, and how far the predicted times are off."""

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

FEWEST = 3  # numbers for which a rank correlation means anything


def main() -> None:
    """Read the arguments, the records of a sweep and the JSON file to write, and write the comparison."""
    records, path = map(Path, sys.argv[1:])
    found = [compared(sweep) for sweep in recorded_sweeps(load(records).records)]
    if not found:
        sys.exit(f"{records}: it holds no sweep whose default was measured")
    path.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    for one in found:
        print(", ".join(f"{name} {value}" for name, value in one.items() if not isinstance(value, list)))  # noqa: T201  # the log


def compared(sweep: RecordedSweep) -> dict[str, object]:
    """Return the rank correlation of model and sweep, the place of the best in the predicted order, and all times."""
    facts: dict[str, object] = {"kernel": sweep.space.kernel, "problem": sweep.key, "configurations": len(sweep.space)}
    predicted, timing = predictions_of(sweep), sweep.default.timing
    if predicted is None or timing is None:
        return {**facts, "reason": f"{sweep.space.kernel} has no static model for this device"}
    default_ms = statistics.median(timing.samples_ns) / 1e6
    measured = [index for index, tries in enumerate(sweep.pairs) if tries]
    expected_ms = [1e3 * predicted[index] for index in measured]
    measured_ms = [default_ms * sweep.score(index) for index in measured]
    ratios = [true / expected for true, expected in zip(measured_ms, expected_ms, strict=True)]
    return {
        **facts,
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
    """Return Spearman's rank correlation, None where the numbers are too few or constant."""
    if len(one) < FEWEST or 1 in (len(set(one)), len(set(other))):
        return None
    return round(float(spearmanr(one, other).statistic), 3)


if __name__ == "__main__":
    main()
