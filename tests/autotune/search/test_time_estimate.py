"""The estimate of a search covers all that the tuner asks for, and is under four minutes for five batch sizes."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import get_args

import pytest
import torch
from simulated_executor import SOURCE, SPACE, Imagined

from moebench.autotune.search.candidates import Candidates
from moebench.autotune.search.time_estimate import START_S, _comparisons, estimate_times
from moebench.autotune.search.tuner import Tuner
from moebench.autotune.search.tuning_plan import TuningPlan
from moebench.autotune.tables.build import winners
from moebench.cli.tuning.tune_options import plan_of
from moebench.kernels.catalog import KERNELS
from moebench.kernels.problem import Mode, Problem
from moebench.kernels.problem.models import model
from moebench.results.record.store import Store

TOKENS = (16, 64, 256, 1024, 4096)
SMALL = [Problem(T=T, D=32, F=48, E=4, K=2) for T in (64, 128, 256)]


def default_plan(candidates: Candidates, problems: list[Problem]) -> TuningPlan:
    return plan_of(
        candidates,
        problems,
        held_out=[],
        start=None,
        trials=None,
        seconds=None,
        loads=[],
        strategy="model",
        seed=0,
        robust=False,
        cache="cold",
    )


@pytest.mark.parametrize("mode", get_args(Mode))
@pytest.mark.parametrize("name", ["Mixtral-8x7B", "Qwen3-30B-A3B"])
def test_five_batch_sizes_take_under_four_minutes_on_16_cores(name: str, mode: Mode) -> None:
    candidates = Candidates(kernel=KERNELS.load("triton_scatter"), device=torch.device("meta"), target="sm_90")
    plan = default_plan(candidates, [model(name).problem(T=T, dtype="bfloat16", mode=mode) for T in TOKENS])

    def call_s(problem: Problem) -> float:
        predicted = candidates.predict(problem, [candidates.space(problem).default])
        assert predicted is not None
        return predicted[0]

    def total_s(cores: int) -> float:
        found = estimate_times(plan, lambda problem: len(candidates.space(problem)), call_s, cores)
        assert [one.problem.T for one in found] == list(TOKENS)
        return START_S + sum(one.seconds for one in found)

    assert total_s(16) < 240 < total_s(1)


def test_no_more_is_tried_of_a_larger_space() -> None:
    candidates = Candidates(kernel=KERNELS.load("triton_scatter"), device=torch.device("meta"), target="sm_90")
    problem = SMALL[0].replace(dtype="bfloat16")
    whole = candidates.space(problem)
    trials = {}
    for count in (40, 220, len(whole)):
        candidates._spaces[problem] = whole.without(dict.fromkeys(range(count, len(whole)), "left out"))
        trials[count] = default_plan(candidates, [problem]).trials
    assert trials == {40: 16, 220: 22, len(whole): 24}


@pytest.mark.parametrize(("loads", "robust"), [((), False), (("zipf:1.2",), False), (("zipf:1.2", "hot"), True)])
def test_the_tuner_asks_for_no_more_than_is_estimated(tmp_path: Path, loads: tuple[str, ...], robust: bool) -> None:
    plan = TuningPlan(
        kernel="scatter",
        source=SOURCE,
        problems=(SMALL[0], SMALL[2]),
        held_out=(SMALL[1],),
        loads=loads,
        robust=robust,
        strategy="model",
        trials=10,
        seconds=1e9,
        quoted_s=0.1,
        hang_s=60.0,
    )
    executor = Imagined()
    with Store(tmp_path / "r.jsonl") as store:
        tuner = Tuner(plan, executor, store, space_of=lambda _: SPACE, predict=lambda *_: None)
        list(tuner.search())
        list(tuner.compare(winners))
        list(tuner.hold_out(lambda _: SPACE.configs[3]))
    estimated = estimate_times(plan, lambda _: len(SPACE), lambda _: 1e-3, 16)
    tasks = {stage: [t for t in executor.tasks if t.point.stage == stage] for stage in ("search", "final")}
    others = [task for task in executor.tasks if task not in (*tasks["search"], *tasks["final"])]
    searched = sum(len(task.competitors) - 1 for task in tasks["search"])
    assert searched == sum(one.trials for one in estimated) == 10 * len(plan.searched)
    compared = [count for problem in plan.searched for count in _comparisons(plan, problem)]
    assert len(tasks["final"]) + len(others) == len(compared)
    assert sum(len(task.competitors) for task in (*tasks["final"], *others)) <= sum(compared)


def test_slower_calls_take_longer_and_more_cores_help_until_the_longest_launch_is_all_that_is_left() -> None:
    plan = default_plan(Candidates(kernel=KERNELS.load("scatter"), device=torch.device("cpu")), SMALL[:1])
    plan = dataclasses.replace(plan, trials=16)
    (fast,), (slow,) = (estimate_times(plan, lambda _: 100, lambda _, s=s: s, 4) for s in (1e-3, 1e-2))  # type: ignore[misc]
    assert slow.sampling_s > fast.sampling_s
    compiling = [estimate_times(plan, lambda _: 100, lambda _: 1e-3, cores)[0].compiling_s for cores in (1, 2, 64, 128)]
    assert compiling[0] > compiling[1] > compiling[2] == compiling[3] > 0
