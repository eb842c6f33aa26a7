"""Study of `auto` on a CPU: how much slower than the best is what the cost model would choose, at each recorded point.

    python studies/auto_regret.py [--estimated | --kept] [RECORDS...]     by default the CPU runs of results/recorded

Of every point the kernels of this package compete in the configurations that were measured there. The rates are those
in the records; with --estimated those that a layer uses on a machine whose rates are not kept, with --kept those that
are kept for this one, so that the choice is the one that a layer makes here.
"""

from __future__ import annotations

import statistics
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from moebench.autotune.search.static_model import rates
from moebench.kernels.catalog import KERNELS
from moebench.kernels.config import Config
from moebench.kernels.cost_model.expert_rows import expected_routing
from moebench.kernels.problem import Problem
from moebench.kernels.steps import Rates
from moebench.kernels.tuned.kept_rates import estimated, rates_here
from moebench.kernels.tuned.select import CPU, candidates
from moebench.reports.tables.text_table import markdown
from moebench.results.record import Record, Status
from moebench.results.record.store import load_all

RECORDED = Path(__file__).parents[1] / "results" / "recorded"
FILES = ("cpu-peers.jsonl", "cpu-peers-zen4.jsonl", "cpu-main.jsonl")
NEAR = 0.15  # the regret that is aimed at
RECORDED_RATES = ""
AT = ("--estimated", "--kept")  # options that name other rates


@dataclass(frozen=True, kw_only=True)
class Measured:
    """A kernel at a point: its median time, and the time that the cost model predicts for it."""

    kernel: str
    ms: float
    predicted_ms: float


@dataclass(frozen=True, kw_only=True)
class Decision:
    """What was measured at one point of a suite, and what the cost model would have chosen of it."""

    suite: str
    problem: Problem
    measured: tuple[Measured, ...]

    @property
    def chosen(self) -> Measured:
        return min(self.measured, key=lambda one: one.predicted_ms)

    @property
    def best(self) -> Measured:
        return min(self.measured, key=lambda one: one.ms)

    @property
    def regret(self) -> float:
        """The share of the best time by which the chosen kernel is slower."""
        return self.chosen.ms / self.best.ms - 1


def decisions(records: Sequence[Record], at: str = RECORDED_RATES) -> list[Decision]:
    """Return the decision at every point where two candidates or more were measured on a CPU, on one rank."""
    places: dict[tuple[str, str], list[Record]] = defaultdict(list)
    able = candidates(CPU)
    for record in records:
        cold = record.timing is not None and record.timing.cache == "cold"
        if (
            record.status is Status.passed
            and cold
            and record.environment.device_type == "cpu"
            and record.kernel in able
        ):
            places[record.point.suite, record.key].append(record)
    return [
        Decision(suite=suite, problem=_problem(found[0]), measured=tuple(_measured(found, at)))
        for (suite, _), found in places.items()
        if len(found) > 1 and found[0].problem.get("ranks") == 1
    ]


def near(found: Sequence[Decision]) -> int:
    """Return at how many points the choice is within `NEAR` of the best."""
    return sum(one.regret <= NEAR for one in found)


def _measured(found: Sequence[Record], at: str) -> Iterator[Measured]:
    problem = _problem(found[0])
    routing = expected_routing(problem)
    for record in found:
        if record.timing is None or (record.roofline is None and at == RECORDED_RATES):
            continue
        kernel = KERNELS.load(record.kernel)
        # Records of an older version lack the axes that came later, whose defaults are what it did.
        config: Config = {**kernel.space(problem, CPU)[0], **record.config}  # type: ignore[dict-item]  # checked by steps
        here = _rates(record, problem, at)
        predicted = sum(step.seconds(here) for step in kernel.steps(problem, config, routing, CPU))
        median_ns = statistics.median(record.timing.samples_ns)
        yield Measured(kernel=record.kernel, ms=median_ns / 1e6, predicted_ms=predicted * 1e3)


def _rates(record: Record, problem: Problem, at: str) -> Rates:
    if at == "--estimated":
        return estimated(problem, record.environment.threads)
    if at == "--kept" or record.roofline is None:
        return rates_here(problem).rates
    return rates(record.roofline, "cpu")


def _problem(record: Record) -> Problem:
    return Problem(**record.problem)  # type: ignore[arg-type]  # checked in its __post_init__


def report(title: str, found: Sequence[Decision]) -> Iterator[str]:
    """Yield the lines about the points of one file."""
    rows = [
        [
            one.suite,
            f"D={one.problem.D} F={one.problem.F} E={one.problem.E} K={one.problem.K}",
            one.problem.dtype,
            one.problem.mode,
            f"{one.problem.T}",
            one.chosen.kernel,
            f"{one.chosen.ms:.3g}",
            f"{one.chosen.predicted_ms:.3g}",
            one.best.kernel,
            f"{one.best.ms:.3g}",
            f"{100 * one.regret:.1f} %",
        ]
        for one in found
    ]
    words = ["suite", "shape", "dtype", "mode", "chosen", "best"]
    columns = ["suite", "shape", "dtype", "mode", "T", "chosen", "ms", "predicted, ms", "best", "best, ms", "regret"]
    yield title
    yield ""
    yield markdown(columns, rows, words=words)
    yield ""
    ratios = [one.predicted_ms / one.ms for point in found for one in point.measured]
    low, middle, high = (statistics.quantiles(ratios, n=20)[index] for index in (0, 9, 18))
    yield f"within {100 * NEAR:.0f} % of the best at {near(found)} of {len(found)} points"
    yield f"predicted over measured times: median {middle:.2f}, nine tenths between {low:.2f} and {high:.2f}"
    yield ""


def main(arguments: Sequence[str]) -> None:
    """Print the regret at the points of the files that are named."""
    at = next((one for one in arguments if one in AT), RECORDED_RATES)
    named = [Path(one) for one in arguments if one not in AT]
    for path in named or [RECORDED / name for name in FILES]:
        found = decisions(load_all([path]).records, at)
        if found:
            sys.stdout.write("\n".join(report(path.name, found)) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
