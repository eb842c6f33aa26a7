"""Study of advice: how often the order of two dispatches that it calls likely is that of the committed records.

    python studies/advice_certainty.py [RECORDS...]     by default the CPU runs of results/recorded

Predictions are made at the rates in the records, for the configurations that were measured. Interpolation leaves one
number of tokens out and is compared with what was measured there.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

from auto_regret import FILES, RECORDED, decisions

from moebench.reports.tables.text_table import markdown
from moebench.results.record import Record
from moebench.results.record.advice import AdviceSource, Certainty
from moebench.results.record.store import load_all
from moebench.suites.advice.recorded_times import RecordedTimes, layer_of, problem_of
from moebench.suites.advice.timed_dispatch import TimedDispatch, margin


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A claim that one dispatch is faster than another, how sure, and the measured time of the other over its."""

    certainty: Certainty
    measured: float

    @property
    def right(self) -> bool:
        return self.measured > 1


def by_prediction(records: Sequence[Record]) -> Iterator[Claim]:
    """Yield a claim for every two kernels at a point."""
    for decision in decisions(records):
        for one, other in combinations(sorted(decision.measured, key=lambda one: one.predicted_ms), 2):
            first, second = (
                TimedDispatch(
                    kernel=found.kernel,
                    config={},
                    source=AdviceSource.predicted,
                    basis="",
                    seconds=found.predicted_ms / 1e3,
                )
                for found in (one, other)
            )
            yield Claim(certainty=margin(first, second).certainty, measured=other.ms / one.ms)


def by_interpolation(records: Sequence[Record]) -> Iterator[Claim]:
    """Yield a claim for every two kernels at a number of tokens that lies between two others."""
    measured = RecordedTimes(records)
    problems = {id(record): found for record in records if (found := problem_of(record)) is not None}
    for problem in dict.fromkeys(problems.values()):
        layer = layer_of(problem)
        others = [
            record
            for record in records
            if (found := problems.get(id(record))) and found.T != problem.T and layer_of(found) == layer
        ]
        between, there = RecordedTimes(others).of(problem), measured.of(problem)
        if between is None or there is None:
            continue
        seconds = {one.kernel: one.seconds for one in there.dispatches}
        known = [one for one in between.fastest_first().dispatches if one.kernel in seconds]
        for one, other in combinations(known, 2):
            yield Claim(certainty=margin(one, other).certainty, measured=seconds[other.kernel] / seconds[one.kernel])


def likely(claims: Sequence[Claim]) -> tuple[int, int, float]:
    """Return how many claims are likely, how many of these are right, and the largest loss by one that is not."""
    found = [claim for claim in claims if claim.certainty is Certainty.likely]
    wrong = [1 / claim.measured - 1 for claim in found if not claim.right]
    return len(found), len(found) - len(wrong), max(wrong, default=0.0)


def main(paths: Sequence[Path]) -> None:
    """Print a row for each source."""
    loaded = [load_all([path]).records for path in paths]
    rows = []
    for name, source in (("predicted", by_prediction), ("interpolated", by_interpolation)):
        claims = [claim for records in loaded for claim in source(records)]
        found, right, loss = likely(claims)
        rows.append([name, str(len(claims)), str(found), str(right), f"{100 * loss:.2g} %"])
    print(markdown(["source", "pairs", "likely", "right", "largest loss"], rows, words=("source",)))  # noqa: T201


if __name__ == "__main__":
    main([Path(name) for name in sys.argv[1:]] or [RECORDED / name for name in FILES])
