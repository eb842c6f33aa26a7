"""Estimate of how long a search on a GPU takes: compiling as measured elsewhere, the rest from the plan."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from ...kernels.problem import Problem
from ...results.timing.stopping_rule import MIN_SAMPLES, PLATEAU_SAMPLES
from .strategy import FINALISTS, FULL_SAMPLES
from .tuner import BATCH
from .tuning_plan import TuningPlan

# Seconds of one core for a candidate of triton_scatter, and for the longest launch of a batch of four, the cache being
# empty: means of 20 candidates each, drawn for Mixtral-8x7B and Qwen3-30B-A3B at T = 16 and 1024, bfloat16, sm_90,
# Triton 3.9, on one core of an AMD EPYC (family 26) whose other core was busy.
COMPILE_S = {"forward": 1.0, "train": 2.8}
LONGEST_LAUNCH_S = {"forward": 0.9, "train": 1.7}
# Estimates, not yet measured: a sample besides the call (the L2 is replaced, the clocks are read), the two checks of a
# competitor, the inputs and float64 references of a problem, the start of workers and compilers.
SAMPLE_S = 0.013
CHECKS_S = 0.2
DRAWING_S = 1.0
START_S = 20.0


@dataclass(frozen=True, kw_only=True)
class TimeEstimate:
    """Estimated seconds for one problem: its search, and the comparisons that follow."""

    problem: Problem
    trials: int
    compiling_s: float
    sampling_s: float
    checking_s: float
    comparing_s: float

    @property
    def seconds(self) -> float:
        """Seconds of all parts together."""
        return self.compiling_s + self.sampling_s + self.checking_s + self.comparing_s


def estimate_times(
    plan: TuningPlan, sizes: Callable[[Problem], int], call_s: Callable[[Problem], float], cores: int
) -> list[TimeEstimate]:
    """Estimate every problem of a plan; ``sizes`` counts its configurations, ``call_s`` gives the seconds of a call.

    It assumes that every candidate takes ``call_s`` and is compiled anew, although batch sizes share code.
    """
    return [
        _of(plan, problem, min(plan.trials, sizes(problem) - 1), call_s(problem), cores) for problem in plan.searched
    ]


def _of(plan: TuningPlan, problem: Problem, trials: int, call_s: float, cores: int) -> TimeEstimate:
    batches = math.ceil(trials / BATCH)
    measured = trials + batches  # the default is in each
    return TimeEstimate(
        problem=problem,
        trials=trials,
        compiling_s=max(COMPILE_S[problem.mode] * trials / cores, LONGEST_LAUNCH_S[problem.mode] * batches),
        sampling_s=measured * FULL_SAMPLES * (call_s + SAMPLE_S),
        checking_s=DRAWING_S + measured * CHECKS_S,
        comparing_s=sum(_compared_s(plan, competitors, call_s) for competitors in _comparisons(plan, problem)),
    )


def _comparisons(plan: TuningPlan, problem: Problem) -> list[int]:
    """Return the competitors of each comparison at most: the default twice, finalists, winners of other batch sizes."""
    if problem in plan.held_out:
        return [2 + FINALISTS + 1]
    if (
        problem not in plan.problems
    ):  # searched for the sake of `robust`: its finalists join those of the same batch size
        return []
    finalists = FINALISTS * (2 if plan.robust else 1)
    return [2 + FINALISTS, *[2 + finalists + len(plan.problems)] * (1 + len(plan.loads))]


def _compared_s(plan: TuningPlan, competitors: int, call_s: float) -> float:
    samples = min(max(MIN_SAMPLES, plan.quoted_s / call_s), 2 * PLATEAU_SAMPLES)
    return DRAWING_S + competitors * (samples * (call_s + SAMPLE_S) + CHECKS_S)
