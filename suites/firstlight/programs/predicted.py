"""The static model beside a sweep: how well its order agrees with the measured one, and how far its times are off."""

from __future__ import annotations

import json
import statistics
import sys
from pathlib import Path

from scipy.stats import spearmanr

from ....autotune.candidates import predictions_of
from ....autotune.replay import Sweep, pruning, sweeps
from ....results.store import load


def main() -> None:
    """Arguments: the file of a sweep's records, and the JSON file to write."""
    records, path = map(Path, sys.argv[1:])
    found = [compared(sweep) for sweep in sweeps(load(records).records)]
    if not found:
        sys.exit(f"{records}: no sweep in it whose default was measured")
    path.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    for one in found:
        print(", ".join(f"{name} {value}" for name, value in one.items() if not isinstance(value, list)))  # noqa: T201  # the log


def compared(sweep: Sweep) -> dict[str, object]:
    """Of one sweep: rank correlation, the place of the best in the model's order, and every pair of times in ms."""
    told: dict[str, object] = {"kernel": sweep.space.kernel, "problem": sweep.key, "configurations": len(sweep.space)}
    predicted = predictions_of(sweep)
    if predicted is None:
        return {**told, "reason": f"there is no static model of {sweep.space.kernel} here"}
    timing = sweep.default.timing
    if timing is None:
        return {**told, "reason": "the default has no time"}
    default_ms = statistics.median(timing.samples_ns) / 1e6
    pairs = [
        (1e3 * predicted[index], default_ms * sweep.score(index)) for index, tries in enumerate(sweep.pairs) if tries
    ]
    ratios = [measured / reckoned for reckoned, measured in pairs]
    return {
        **told,
        "measured": len(pairs),
        "rank_correlation": round(float(spearmanr(*zip(*pairs, strict=True)).statistic), 3) if len(pairs) > 2 else None,
        "best_in_top": round(pruning(sweep, predicted), 3),
        "median_measured_over_predicted": round(statistics.median(ratios), 3),
        "pairs": [
            {"predicted_ms": round(reckoned, 4), "measured_ms": round(measured, 4), "config": dict(config)}
            for (reckoned, measured), config in zip(
                pairs,
                (config for config, tries in zip(sweep.space.configs, sweep.pairs, strict=True) if tries),
                strict=True,
            )
        ],
    }


if __name__ == "__main__":
    main()
