"""The tuner on invented times: the tasks that it submits, the records that it keeps, and how it ends."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from simulated_executor import SOURCE, SPACE, Imagined, configs_of, tiles_near_100

from moebench.autotune.search.compile_ahead import Faults, none_known
from moebench.autotune.search.problem_search import DefaultFails
from moebench.autotune.search.strategy import FINALISTS
from moebench.autotune.search.tuner import Tuner
from moebench.autotune.search.tuning_plan import TuningPlan
from moebench.autotune.tables.build import derive, winners
from moebench.execution.trial.task import Task
from moebench.execution.workers import supervisor
from moebench.kernels.config import Config
from moebench.kernels.problem import Problem
from moebench.results.record import Stage, Status
from moebench.results.record.store import Store, load

SMALL, LARGE = (Problem(T=T, D=32, F=48, E=4, K=2) for T in (64, 256))
PLAN = TuningPlan(
    kernel="scatter",
    source=SOURCE,
    problems=(SMALL,),
    strategy="model",
    trials=12,
    seconds=1e9,
    quoted_s=0.1,
    hang_s=60.0,
    seed=1,
)


def tuned(path: Path, executor: Imagined, plan: TuningPlan = PLAN, faults: Faults = none_known) -> Tuner:
    with Store(path) as store:
        tuner = Tuner(plan, executor, store, space_of=lambda _: SPACE, predict=lambda *_: None, faults=faults)
        executor.interrupt = tuner.stop
        for _ in tuner.search():
            pass
        for _ in tuner.compare(winners):
            pass
    return tuner


def stages(tasks: Sequence[Task]) -> list[Stage | None]:
    return [task.point.stage for task in tasks]


def test_it_finds_a_fast_tile_and_says_by_how_much(tmp_path: Path) -> None:
    tuner = tuned(tmp_path / "r.jsonl", Imagined())
    (table,) = derive(tuner.records).tables
    (bucket,) = table.entries[0].buckets
    assert bucket.verdict == "tuned"
    assert abs(int(table.entries[0].configs[bucket.chosen]["tile"]) - 96) <= 32
    assert bucket.interval[0] > 1.5


def test_every_batch_holds_the_default_and_no_candidate_is_searched_twice(tmp_path: Path) -> None:
    executor = Imagined()
    tuned(tmp_path / "r.jsonl", executor)
    searched = [configs_of(task) for task in executor.tasks if task.point.stage == "search"]
    assert all(configs[0] == SPACE.default for configs in searched)
    candidates = [tuple(config.items()) for configs in searched for config in configs[1:]]
    assert len(candidates) == len(set(candidates)) == PLAN.trials


def test_finalists_are_compared_in_one_task_with_the_default_twice(tmp_path: Path) -> None:
    executor = Imagined()
    tuned(tmp_path / "r.jsonl", executor)
    (final,) = [task for task in executor.tasks if task.point.stage == "final"]
    assert configs_of(final).count(SPACE.default) == 2
    assert len(final.competitors) == FINALISTS + 2
    assert final.budget.samples is None


def test_a_tie_keeps_the_default(tmp_path: Path) -> None:
    tuner = tuned(tmp_path / "r.jsonl", Imagined(lambda *_: 1.0))
    (bucket,) = derive(tuner.records).tables[0].entries[0].buckets
    assert bucket.verdict == "tie"
    assert bucket.chosen == bucket.default


def test_what_was_measured_is_not_measured_again(tmp_path: Path) -> None:
    first, second = Imagined(), Imagined()
    before = tuned(tmp_path / "r.jsonl", first)
    after = tuned(tmp_path / "r.jsonl", second)
    assert not second.tasks
    assert len(after.records) == len(before.records)


def test_records_of_configurations_that_the_space_has_no_more_are_passed_over(tmp_path: Path) -> None:
    """This happens when a search is continued with --compile, which leaves some configurations out."""
    tuned(tmp_path / "r.jsonl", Imagined())
    smaller = SPACE.without(dict.fromkeys(range(1, len(SPACE), 2), "spills"))
    with Store(tmp_path / "r.jsonl") as store:
        tuner = Tuner(PLAN, Imagined(), store, space_of=lambda _: smaller, predict=lambda *_: None)
        for _ in tuner.search():
            pass
    assert tuner.passed() > 0


def test_a_batch_that_tells_nothing_keeps_its_number(tmp_path: Path) -> None:
    """A batch without the default is ignored, and its number is not used again."""
    tuned(tmp_path / "r.jsonl", Imagined())
    lines = (tmp_path / "r.jsonl").read_text().splitlines()
    kept = [line for line in lines if '"tile":512' not in line]
    for name in ("r.jsonl", "kept.jsonl"):
        (tmp_path / name).write_text("\n".join(kept) + "\n")
    executor = Imagined()
    tuned(tmp_path / "r.jsonl", executor)
    old = {(record.point.stage, record.point.batch) for record in load(tmp_path / "kept.jsonl").records}
    assert not old & {(task.point.stage, task.point.batch) for task in executor.tasks}


def test_a_larger_budget_continues_the_search(tmp_path: Path) -> None:
    tuned(tmp_path / "r.jsonl", Imagined())
    executor = Imagined()
    tuned(tmp_path / "r.jsonl", executor, dataclasses.replace(PLAN, trials=16))
    assert stages(executor.tasks)[0] == "search"
    assert sum(len(task.competitors) - 1 for task in executor.tasks if task.point.stage == "search") == 4


@pytest.mark.parametrize("change", [{"source": "4567"}, {"cache": "hot"}])
def test_records_of_other_sources_or_caches_say_nothing(tmp_path: Path, change: dict[str, str]) -> None:
    tuned(tmp_path / "r.jsonl", Imagined())
    executor = Imagined()
    with Store(tmp_path / "r.jsonl") as store:
        plan = dataclasses.replace(PLAN, **change)  # type: ignore[arg-type]
        tuner = Tuner(plan, executor, store, space_of=lambda _: SPACE, predict=lambda *_: None)
        assert not tuner.records


def test_the_seconds_of_trials_end_a_search(tmp_path: Path) -> None:
    executor = Imagined()
    tuned(tmp_path / "r.jsonl", executor, dataclasses.replace(PLAN, seconds=6.0))
    assert stages(executor.tasks).count("search") == 2  # five seconds each


def test_interrupted_it_compares_what_it_has_found(tmp_path: Path) -> None:
    executor = Imagined(interrupt_at=2)
    tuner = tuned(tmp_path / "r.jsonl", executor)
    assert tuner.interrupted
    assert stages(executor.tasks) == ["search", "search", "final", "cross"]
    assert derive(tuner.records).tables[0].entries[0].buckets


def test_failing_candidates_are_recorded_and_avoided(tmp_path: Path) -> None:
    def half_wrong(problem: Problem, config: Config) -> float | Status:
        return Status.wrong if config["order"] == "b" else tiles_near_100(problem, config)

    tuner = tuned(tmp_path / "r.jsonl", Imagined(half_wrong), dataclasses.replace(PLAN, trials=20))
    assert tuner.failures()["wrong"] > 0
    assert tuner.passed() > 0
    (bucket,) = derive(tuner.records).tables[0].entries[0].buckets
    assert derive(tuner.records).tables[0].entries[0].configs[bucket.chosen]["order"] == "a"


def test_what_does_not_compile_is_a_record_and_costs_no_trial_of_a_worker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every candidate is compiled before it is submitted, in every stage; the default is always measured."""
    monkeypatch.setattr(supervisor, "source_hash", lambda *_: SOURCE)
    compiled: list[tuple[Problem, Config]] = []

    def faults(problem: Problem, configs: Sequence[Config]) -> Iterator[str | None]:
        compiled.extend((problem, config) for config in configs)
        yield from ("spills" if config["order"] == "b" or config == SPACE.default else None for config in configs)

    plan = dataclasses.replace(PLAN, problems=(SMALL, LARGE), trials=20)
    executor = Imagined()
    tuner = tuned(tmp_path / "r.jsonl", executor, plan, faults)
    measured = [(task.problem, config) for task in executor.tasks for config in configs_of(task)]
    assert all(one in compiled for one in measured)
    assert all(config["order"] == "a" for _, config in measured)
    assert tuner.failures() == {"uncompilable": sum(config["order"] == "b" for _, config in compiled)}
    assert {record.reason for record in tuner.records if record.timing is None} == {"spills"}
    searched = [record for record in tuner.records if record.point.stage == "search"]
    assert sum(record.config != dict(SPACE.default) for record in searched) == 2 * plan.trials
    again = Imagined()
    tuned(tmp_path / "r.jsonl", again, plan, faults)
    assert not again.tasks


def test_all_candidates_failing_leaves_the_default(tmp_path: Path) -> None:
    def only_the_default(_: Problem, config: Config) -> float | Status:
        return 1.0 if config == SPACE.default else Status.crashed

    tuner = tuned(tmp_path / "r.jsonl", Imagined(only_the_default))
    assert tuner.passed() == 0
    (bucket,) = derive(tuner.records).tables[0].entries[0].buckets
    assert (bucket.verdict, bucket.chosen) == ("tie", bucket.default)


def test_a_default_that_fails_is_said(tmp_path: Path) -> None:
    with pytest.raises(DefaultFails, match="out_of_memory: so it is"):
        tuned(tmp_path / "r.jsonl", Imagined(lambda *_: Status.out_of_memory))


def test_winners_of_one_batch_size_are_measured_at_the_others(tmp_path: Path) -> None:
    executor = Imagined()
    plan = dataclasses.replace(PLAN, problems=(SMALL, LARGE), loads=("zipf:1.2",))
    tuner = tuned(tmp_path / "r.jsonl", executor, plan)
    chosen = winners(tuner.records)
    crosses = [task for task in executor.tasks if task.point.stage == "cross"]
    assert {(task.problem.T, task.problem.load) for task in crosses} == {
        (T, load) for T in (64, 256) for load in ("uniform", "zipf:1.2")
    }
    assert all(config in configs_of(task) for config in chosen for task in crosses)
    entry = next(entry for entry in derive(tuner.records).tables[0].entries if entry.loads == ("uniform",))
    assert all(bucket.regret["zipf:1.2"] >= 0 for bucket in entry.buckets)


def test_robust_tuning_searches_under_every_load(tmp_path: Path) -> None:
    executor = Imagined()
    tuned(tmp_path / "r.jsonl", executor, dataclasses.replace(PLAN, loads=("zipf:1.2",), robust=True))
    assert {task.problem.load for task in executor.tasks if task.point.stage == "search"} == {"uniform", "zipf:1.2"}


def test_starts_are_tried_first(tmp_path: Path) -> None:
    executor = Imagined()
    starts: list[Config] = [SPACE.configs[7], {"tile": 3, "order": "a"}, SPACE.configs[20]]
    tuned(tmp_path / "r.jsonl", executor, dataclasses.replace(PLAN, starts={64: starts}))
    assert configs_of(executor.tasks[0])[1:] == [SPACE.configs[7], SPACE.configs[20]]
    searched = [config for task in executor.tasks if task.point.stage == "search" for config in configs_of(task)[1:]]
    assert searched.count(SPACE.configs[7]) == 1


def test_held_out_batch_sizes_are_compared_with_the_look_up(tmp_path: Path) -> None:
    executor = Imagined()
    middle = SMALL.replace(T=128)
    plan = dataclasses.replace(PLAN, problems=(SMALL, LARGE), held_out=(middle,))
    tuner = tuned(tmp_path / "r.jsonl", executor, plan)
    with Store(tmp_path / "other.jsonl"):
        list(tuner.hold_out(lambda _: SPACE.configs[3]))
    last = executor.tasks[-1]
    assert tuner.records[-1].point.stage == "held-out"
    assert last.problem == middle
    assert SPACE.configs[3] in configs_of(last)


def test_several_slots_are_kept_busy(tmp_path: Path) -> None:
    executor = Imagined(slots=3)
    tuned(tmp_path / "r.jsonl", executor, dataclasses.replace(PLAN, trials=20))
    numbers = [task.point.line for task in executor.tasks]
    assert len(numbers) == len(set(numbers))
