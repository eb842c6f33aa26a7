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
from moebench.kernels.problem import Problem
from moebench.kernels.problem.models import MODELS
from moebench.kernels.problem.trace import load_of
from moebench.kernels.problem.traces.trace_writer import write_ids
from moebench.results.record import CacheState, Size
from moebench.suites import plan as planner
from moebench.suites.layer import NOTHING_ASKED, Asked, Layer
from moebench.suites.plan import CannotTime, NothingToMeasure, Plan, plan, tasks, timed
from moebench.suites.suite import SUITES


def planned(*names: str, **options: Any) -> Plan:
    defaults = {"size": "small", "device_type": "cpu", "configs": "default"}
    return plan(names, **defaults | options)


def of_models(*names: str) -> Asked:
    return Asked(layers=tuple(Layer.of(name, T=1) for name in names))


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


def test_a_layer_does_not_compete_where_a_part_is_measured_alone() -> None:
    found = planned("determinism", kernels=("grouped",))
    assert [competing(task) for task in found.tasks] == [{"padded", "grouped"}] * 2
    both = planned("determinism", kernels=("grouped", "router_alone"))
    assert {"router_alone"} in [competing(task) for task in both.tasks]


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
    found = planned("smoke", asked=of_models("mixtral-8x7b"))
    assert {task.point.model for task in found.tasks} == {"Mixtral-8x7B"}
    both = planned("smoke", asked=of_models("Mixtral-8x7B", "Qwen3-30B-A3B"))
    assert both.tasks == planned("smoke").tasks


def test_a_suite_without_points_of_a_model_is_asked_of_its_layer() -> None:
    found = planned("experts", asked=of_models("Granite-3-1B-A400M"))
    assert [(task.problem.D, task.problem.E, task.point.x) for task in found.tasks] == [
        (1024, E, E) for E in (8, 32, 128, 512)
    ]
    assert {task.point.line for task in found.tasks} == {"Granite-3-1B-A400M, T=1024"}
    # Points of the one model would be scaled down, and those of the other not.
    both = planned("tokens", asked=of_models("Qwen3-30B-A3B", "OLMoE-1B-7B"))
    assert {task.point.line for task in both.tasks} == {"Qwen3-30B-A3B, D=2048", "OLMoE-1B-7B, D=2048"}


OWN = Layer(name="ours", problem=Problem(T=1, D=96, F=64, E=64, K=4, router="softmax_topk"))


@pytest.mark.parametrize("size", ["small", "full"])
@pytest.mark.parametrize("name", SUITES.names())
def test_every_suite_can_be_asked_of_any_layer(name: str, size: Size) -> None:
    device: DeviceType = "cpu" if size == "small" else "cuda"
    asked, of_suite = (
        planned(name, size=size, device_type=device, asked=Asked(layers=(OWN,))),
        tasks(name, size, device),
    )
    assert asked.notes == []
    own, usual = [task.problem for task in asked.tasks], [task.problem for task in of_suite]
    assert {problem.D for problem in own} == {96}
    experts = [problem for problem in own if problem.activation != "identity"]  # a low-rank update has no gate
    assert all(problem.gated for problem in experts)
    if name not in ("routers", "balance", "determinism"):  # which have points of other routers
        assert {problem.router for problem in own} == {"softmax_topk"}
    assert {(problem.T, problem.dtype, problem.mode, problem.load, problem.ranks) for problem in own} <= {
        (problem.T, problem.dtype, problem.mode, problem.load, problem.ranks) for problem in usual
    }
    assert {task.point.x for task in asked.tasks} - {"ours"} <= {task.point.x for task in of_suite}
    assert {task.point.model for task in asked.tasks} == {None}
    places = [(task.point, task.problem) for task in asked.tasks]
    assert all(places.count(place) == 1 for place in places)
    assert all(task.competitors for task in asked.tasks)


@pytest.mark.parametrize("name", SUITES.names())
@pytest.mark.parametrize(
    ("field", "values"),
    [
        ("T", (24, 48)),
        ("dtype", ("bfloat16",)),
        ("mode", ("train",)),
        ("capacity_factor", (1.5, None)),
        ("load", ("zipf:0.7",)),
        ("ranks", (2,)),
        ("router", ("sigmoid_topk",)),
    ],
)
def test_what_a_user_fixes_stays_in_every_suite(name: str, field: str, values: tuple[object, ...]) -> None:
    found = planned(name, asked=Asked(fields={field: values})).tasks
    fixed = [getattr(task.problem, field) for task in found]
    if (name, field) == ("scaling", "T"):  # whose tokens are those of each rank
        fixed = [task.problem.tokens_per_rank for task in found]
    assert set(fixed) == set(values)
    lines = {(task.point.line, task.point.x, task.problem.dtype, task.problem.mode) for task in found}
    assert len(lines) == len(found), "a table could not tell two points apart"
    for task in found:
        kernels = competing(task)
        assert task.point.baseline in kernels or name in ("smoke", "gate", "determinism")
        assert task.problem.ranks == 1 or all(KERNELS.load(kernel).between_ranks for kernel in kernels)


def test_the_axis_takes_the_values_that_are_given() -> None:
    found = planned("tokens", asked=Asked(layers=(OWN,), fields={"T": (3, 5), "dtype": ("bfloat16", "float32")})).tasks
    assert [(task.point.line, task.point.x, task.problem.dtype) for task in found] == [
        ("ours, D=96", T, dtype) for T in (3, 5) for dtype in ("bfloat16", "float32")
    ]
    (dropless,) = planned("capacity", asked=Asked(fields={"capacity_factor": (None,)})).tasks
    assert (dropless.point.x, dropless.point.line) == ("dropless", "Mixtral-8x7B, D=256, T=512")


def test_a_line_names_what_a_user_has_fixed() -> None:
    fields = {"load": ("hot",), "capacity_factor": (2.0,), "router": ("softmax_topk",)}
    lines = {task.point.line for task in planned("tokens", asked=Asked(layers=(OWN,), fields=fields)).tasks}
    assert lines == {"ours, D=96, hot, capacity factor 2, softmax_topk"}


def test_points_that_a_layer_cannot_have_are_left_out_with_the_reason() -> None:
    narrow = Layer(name="ours", problem=OWN.problem.replace(F=12))
    found = planned("granularity", asked=Asked(layers=(narrow,)))
    assert [task.point.x for task in found.tasks] == [1, 2]
    assert found.notes == [
        f"granularity leaves out a point: granularity = {G} does not divide F = 12: give a divisor of it"
        for G in (8, 32)
    ]
    with pytest.raises(NothingToMeasure, match=r"no point of tokens is left: dtype = 'int8': give one of"):
        planned("tokens", asked=Asked(fields={"dtype": ("int8",)}))


def test_a_wrong_name_is_refused() -> None:
    with pytest.raises(UnknownName, match="did you mean"):
        planned("smoke", kernels=("scater",))


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
    first = planner.chosen(["tokens"], "small", NOTHING_ASKED)[0][:1]
    monkeypatch.setattr(planner, "chosen", lambda *_: (first, []))
    monkeypatch.setattr(planner, "_task", lambda *_: of_table)
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


def test_a_recorded_load_that_is_repeated_is_said_with_its_tokens(tmp_path: Path) -> None:
    write_ids(tmp_path / "t.npy", [[0, 1], [2, 3], [1, 0]])
    layer = Layer(name="mine", problem=Problem(T=1, D=16, F=16, E=4, K=2))
    for load, T, said in (
        (load_of(tmp_path / "t.npy"), (2, 3), []),
        (load_of(tmp_path / "t.npy"), (2, 8), ["has 3 tokens, which are repeated for points of more, up to T=8"]),
        ("text", (1 << 17,), ["load text has 98,181 tokens, which are repeated for points of more, up to T=131072"]),
        ("uniform", (1 << 17,), []),
    ):
        asked = Asked(layers=(layer,), fields={"load": (load,), "T": T})
        found = planned("tokens", asked=asked)
        assert len(found.notes) == len(said)
        assert all(note.endswith(end) for note, end in zip(found.notes, said, strict=True))
