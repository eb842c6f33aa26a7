"""Study of the search strategies: the regret of each on recorded sweeps, and on synthetic spaces of a GPU's size.

`nox -s tuning-study` runs it; docs/tuning.md shows what it prints. Every number is from fixed seeds.

    python studies/tuning_study.py [RECORDS...]     by default the sweeps of results/recorded
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from landscape import WIDE, Landscape
from replay import SEEDS, SHARES, Study

from moebench.autotune.search.candidates import predictions_of
from moebench.autotune.search.recorded_sweep import RecordedSweep, recorded_sweeps
from moebench.autotune.search.strategy import DEFAULT, STRATEGIES
from moebench.autotune.search.tuner import BATCH
from moebench.reports.tables.text_table import markdown
from moebench.results.record.store import load_all

RECORDED = Path(__file__).parents[1] / "results" / "recorded"
TRIALS = (8, 16, 24, 32, 48, 64)  # on a synthetic space; `moebench tune` tries 24 by default
LANDSCAPES = 12
WITH, WITHOUT = "with the static model", "without predictions"


def on_sweep(sweep: RecordedSweep) -> Iterator[str]:
    """Yield the lines about one recorded sweep: its best configuration, and the regret of every strategy."""
    predicted = predictions_of(sweep)
    best = 1 / sweep.score(sweep.best)
    ranked = "" if predicted is None else f", in the static model's top {100 * sweep.share_to_keep(predicted):.1f} %"
    yield f"{sweep.space.kernel} {sweep.key}"
    yield f"{len(sweep.space)} configurations; the best is {best:.3f} times as fast as the default{ranked}"
    for title, predictions in ((WITH, predicted), (WITHOUT, None)):
        if title == WITH and predictions is None:
            continue
        studies = [Study.of(name, sweep, predicted=predictions) for name in _names(predictions)]
        columns = [f"{100 * share:.0f} %: {studies[0].after(share).trials} trials" for share in SHARES]
        rows = [[study.strategy, *(_regret(*_after(study, share)) for share in SHARES)] for study in studies]
        yield ""
        yield markdown([title, *columns], rows, words=[title])
    yield ""


def on_landscapes() -> Iterator[str]:
    """Yield the lines about synthetic spaces: the regret of the best finalist of every strategy."""
    landscapes = [Landscape.draw(WIDE, seed) for seed in range(LANDSCAPES)]
    yield f"{LANDSCAPES} synthetic spaces of {len(landscapes[0].space)} configurations, {BATCH} candidates at a time"
    for title in (WITH, WITHOUT):
        rows = []
        for name in STRATEGIES.names():
            regrets = np.array([_regrets(name, one, seed, title == WITH) for seed, one in enumerate(landscapes)])
            rows.append([name, *(_regret(float(np.median(one)), float(one.max())) for one in regrets.T)])
        yield ""
        yield markdown([title, *(f"{trials} trials" for trials in TRIALS)], rows, words=[title])


def _names(predictions: Sequence[float] | None) -> list[str]:
    """Return the strategies to compare; without predictions `exhaustive` has only the order of the recording."""
    return [name for name in STRATEGIES.names() if predictions is not None or name != "exhaustive"]


def _after(study: Study, share: float) -> tuple[float, float]:
    regret = study.after(share)
    return regret.median, regret.worst


def _regrets(name: str, landscape: Landscape, seed: int, guided: bool) -> list[float]:
    """Return the regret of the best finalist after each of `TRIALS`."""
    strategy = STRATEGIES.load(name)(landscape.space, seed=seed, predicted=landscape.predicted if guided else None)
    regrets, done = [], 0
    for trials in TRIALS:
        landscape.search(strategy, trials - done, BATCH)
        regrets.append(landscape.regret([DEFAULT, *strategy.scores.finalists()]))
        done = trials
    return regrets


def _regret(median: float, worst: float) -> str:
    return f"{100 * median:.1f} % (≤ {100 * worst:.1f} %)"


def main(arguments: Sequence[str]) -> None:
    """Print the study of the files of records that are named, by default of the recorded sweeps."""
    files = [Path(argument) for argument in arguments] or sorted(RECORDED.glob("*sweeps*.jsonl"))
    found = recorded_sweeps(load_all(files).records)
    if not found:
        sys.exit(f"{', '.join(map(str, files))}: no sweep in it; `moebench tune --strategy exhaustive` records one")
    for sweep in found:
        sys.stdout.write("\n".join(on_sweep(sweep)) + "\n")
    sys.stdout.write("\n".join(on_landscapes()))
    sys.stdout.write(f"\n\nregret against the best of all: median (and worst) of {SEEDS} seeds, or of the spaces\n")


if __name__ == "__main__":
    main(sys.argv[1:])
