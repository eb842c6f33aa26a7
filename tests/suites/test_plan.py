"""The planner: which kernels and points are measured, and what is said where some cannot be."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from tables import CONFIGS, PROBLEM, table

from moebench.common.names import UnknownName
from moebench.execution.trial.task import Task
from moebench.execution.workers.worker import DeviceType
from moebench.kernels.catalog import KERNELS
from moebench.kernels.problem.models import MODELS
from moebench.results.record import CacheState
from moebench.suites import plan as planner
from moebench.suites.plan import CannotTime, NothingToMeasure, Plan, plan, tasks, timed


def planned(*names: str, **options: Any) -> Plan:
    defaults = {"size": "small", "device_type": "cpu", "configs": "default"}
    return plan(names, **defaults | options)


def competing(task: Task) -> set[str]:
    return {who.kernel for who in task.competitors}


def test_a_plan_without_kernels_is_what_the_suites_ask() -> None:
    found = planned("smoke", "capacity")
    assert found.tasks == [*tasks("smoke", "small", "cpu"), *tasks("capacity", "small", "cpu")]
    assert found.notes == []


def test_named_kernels_replace_the_competitors_and_the_baseline_stays() -> None:
    """An implementation that the suite does not name is measured, too."""
    suite = tasks("tokens", "small", "cpu")
    assert all("gshard_einsum" not in competing(task) for task in suite)
    found = planned("tokens", kernels=("gshard_einsum", "scatter"))
    assert [competing(task) for task in found.tasks] == [{"loop", "gshard_einsum", "scatter"}] * len(suite)
    assert found.notes == []


def test_a_named_kernel_competes_only_where_it_takes_the_problem() -> None:
    found = planned("smoke", kernels=("scatter",))
    assert {task.problem.capacity_factor for task in found.tasks} == {None}
    assert {task.problem.ranks for task in found.tasks} == {1}
    both = planned("smoke", kernels=("scatter", "hierarchical"))
    (parallel,) = [task for task in both.tasks if task.problem.ranks > 1]
    assert competing(parallel) == {"hierarchical"}


def test_a_baseline_is_not_measured_twice() -> None:
    found = planned("tokens", kernels=("loop", "loop", "scatter"))
    assert all([who.kernel for who in task.competitors] == ["loop", "scatter"] for task in found.tasks)


def test_a_named_kernel_that_takes_part_nowhere_is_said_with_the_reason() -> None:
    found = planned("parallel", kernels=("alltoall", "scatter", "megablocks"))
    assert all(competing(task) <= {"alltoall", "scatter"} for task in found.tasks)
    assert [note.partition(": ")[0] for note in found.notes] == ["megablocks takes part at no point"]
    assert "needs a CUDA device" in found.notes[0] or "pip install" in found.notes[0]


def test_without_any_that_takes_part_there_is_nothing_to_measure() -> None:
    with pytest.raises(NothingToMeasure, match="to measure in overlap: loop takes part at no point: runs on one rank"):
        planned("overlap", kernels=("loop",))


def test_the_configuration_of_a_point_is_that_of_every_competitor() -> None:
    for task in planned("overlap", kernels=("hierarchical",)).tasks:
        assert competing(task) == {"alltoall", "hierarchical"}
        assert all(who.config == {"chunks": task.point.x} for who in task.competitors)


@pytest.mark.parametrize("name", ["capacity", "models", "overlap", "parallel", "peers", "scaling", "skew", "smoke"])
def test_points_have_the_model_that_they_are_the_shape_of(name: str) -> None:
    names = {preset.name for preset in MODELS}
    assert all(task.point.model in names for task in tasks(name, "small", "cpu"))


def test_models_leave_only_their_points() -> None:
    found = planned("smoke", models=("mixtral-8x7b",))
    assert {task.point.model for task in found.tasks} == {"Mixtral-8x7B"}
    both = planned("smoke", models=("Mixtral-8x7B", "Qwen3-30B-A3B"))
    assert both.tasks == planned("smoke").tasks
    with pytest.raises(NothingToMeasure, match="no point of experts has the shape of Mixtral-8x7B"):
        planned("experts", models=("Mixtral-8x7B",))


@pytest.mark.parametrize("options", [{"kernels": ("scater",)}, {"models": ("Mixtral-8x7C",)}])
def test_a_wrong_name_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(UnknownName, match="did you mean"):
        planned("smoke", **options)


def test_records_say_the_size_of_the_suite() -> None:
    assert {task.point.size for task in planned("smoke").tasks} == {"small"}
    assert {task.point.size for task in planned("smoke", size="full", device_type="cuda").tasks} == {"full"}


def test_samples_bound_every_competitor_and_turns_are_taken_in_one_folder(tmp_path: Path) -> None:
    for task in planned("smoke", samples=7, interleave_with=tmp_path).tasks:
        assert (task.budget.samples, task.interleave_with) == (7, tmp_path)


def test_tuned_configurations_are_measured_unless_the_defaults_are_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The plan says so as well, for `moebench run` and `pytest suites` alike."""
    monkeypatch.setenv("MOEBENCH_TUNED", str(tmp_path))
    (tmp_path / "table.json").write_text(table().text())
    asked = tasks("tokens", "small", "cpu")[0]
    of_table = dataclasses.replace(asked, problem=PROBLEM)
    monkeypatch.setattr(planner, "tasks", lambda *_: [of_table])
    tuned = planned("tokens", configs="tuned")
    assert "scatter runs as tuned at 1 point" in tuned.notes
    assert [who.config for task in tuned.tasks for who in task.competitors if who.kernel == "scatter"] == [CONFIGS[1]]
    assert all(who.config is None for task in planned("tokens").tasks for who in task.competitors)


@pytest.mark.parametrize(("cache", "label"), [("hot", "hot caches"), ("eager", "eager calls")])
def test_calls_that_are_timed_in_another_way_are_on_a_line_of_their_own(cache: CacheState, label: str) -> None:
    """The same problems and competitors, never at the place of a cold record."""
    cold = tasks("models", "reduced", "cuda")
    other = timed(cold, cache, "cuda")
    assert [task.cache for task in other] == [cache] * len(cold)
    assert [task.point.line for task in other] == [f"{task.point.line}, {label}" for task in cold]
    assert [task.competitors for task in other] == [task.competitors for task in cold]
    assert timed(cold, "cold", "cuda") == cold


@pytest.mark.parametrize(
    ("name", "device", "why"), [("tokens", "cpu", "the device is cpu"), ("parallel", "cuda", "dispatchers between")]
)
def test_hot_is_refused_where_no_kernel_can_be_timed_so(name: str, device: DeviceType, why: str) -> None:
    with pytest.raises(CannotTime, match=f"{why}.* use cold or eager"):
        planned(name, size="full", device_type=device, cache="hot")


def test_every_kernel_can_be_named() -> None:
    """Kernels that cannot run here are named, and nothing else is lost."""
    found = planned("smoke", kernels=KERNELS.names())
    said = {note.partition(" takes part")[0] for note in found.notes}
    taking = {kernel for task in found.tasks for kernel in competing(task)}
    assert taking | said == set(KERNELS.names())
    assert not taking & said
