"""Programs of the steps: the tasks that they declare and the results that they compute. A rehearsal runs them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from exhaustive import all_but
from quick_start import python_m
from records import TIMING, record

from moebench.autotune.search.space import Space
from moebench.kernels.catalog import KERNELS
from moebench.kernels.compiler.survey import compiled_kernels, unable
from moebench.kernels.hardware.device_limits import assuming
from moebench.kernels.hardware.gpus import HARDWARE
from moebench.kernels.problem import Problem
from moebench.results.record import Timing
from moebench.suites.firstlight.forms import GPU, REHEARSAL
from moebench.suites.firstlight.programs import describe_machine, measure_tasks, precompile, stand_in, variants

META = torch.device("meta")
KERNEL = KERNELS.load(variants.KERNEL)


@pytest.fixture
def h100() -> Iterator[None]:
    with assuming(HARDWARE["sm_90"]):
        yield


def timed(*samples_ns: float) -> Timing:
    return TIMING.model_copy(update={"samples_ns": list(samples_ns)})


def space(problem: Problem) -> Space:
    return Space.of(KERNEL, problem, META)


@pytest.mark.usefixtures("h100")
@pytest.mark.parametrize("problem", GPU.variants, ids=lambda problem: problem.key)
def test_a_variant_is_the_default_but_for_one_choice_that_is_proven(problem: Problem) -> None:
    found = variants.one_change(space(problem), GPU.most)
    assert 1 < len(found) <= GPU.most
    for config in found:
        assert len(variants.difference(config, space(problem).default)) == 1
        assert not KERNEL.unproven(config)
    assert len({frozenset(config.items()) for config in found}) == len(found)


@pytest.mark.usefixtures("h100")
@pytest.mark.parametrize(
    "choice",
    [
        {"group_m": (8, 16, 32)},
        {"gathered": (False, True)},
        {"scatter": (False, True)},
        {"persistent": (False, True)},  # where it is set, the loops over tiles and steps are one
        {"down": ("128x256x64w8s4", "128x128x64w4s4")},
        {"down_backward": ("128x128x64w4s3", "64x128x64w4s4")},
        {"weights": ("128x256x64w8s4", "128x128x64w8s4", "128x128x64w4s4")},
        {"split_k": (1, 2, 4)},
    ],
    ids=lambda choice: next(iter(choice)),
)
def test_every_open_choice_is_tried(choice: dict[str, tuple[object, ...]]) -> None:
    """Each value is that of the default or of a variant, at one of the problems at least."""
    ((name, values),) = choice.items()
    tried = [
        {config[name] for config in (space(problem).default, *variants.one_change(space(problem), GPU.most))}
        for problem in GPU.variants
    ]
    assert any(found >= set(values) for found in tried)


@pytest.mark.usefixtures("h100")
def test_every_choice_is_changed_before_any_is_changed_again() -> None:
    whole = space(GPU.variants[0])
    changes = [variants.difference(config, whole.default) for config in whole.configs if not KERNEL.unproven(config)]
    choices = {next(iter(change)) for change in changes if len(change) == 1}
    assert len(choices) > 2
    few = variants.one_change(whole, len(choices))
    assert {next(iter(variants.difference(config, whole.default))) for config in few} == choices


@pytest.mark.usefixtures("h100")
def test_variants_compete_in_groups_with_the_default_twice() -> None:
    tasks = variants.tasks(GPU)
    assert len({(task.point, task.problem.key) for task in tasks}) == len(tasks)
    for problem in GPU.variants:
        found = [[who.config for who in task.competitors] for task in tasks if task.problem == problem]
        assert all(configs[0] == configs[1] == space(problem).default for configs in found)
        assert all(len(configs) <= variants.TOGETHER + 2 for configs in found)
        proven, unproven = variants.one_change(space(problem), GPU.most), variants.one_unproven_change(space(problem))
        assert [one for configs in found for one in configs[2:]] == [*proven, *unproven]
    assert {who.kernel for task in tasks for who in task.competitors} == {variants.KERNEL}


@pytest.mark.usefixtures("h100")
def test_unproven_variants_come_last_at_every_problem() -> None:
    tasks = variants.tasks(GPU)
    risky = [any(KERNEL.unproven(who.config or {}) for who in task.competitors) for task in tasks]
    assert risky == sorted(risky)
    last = [task for task, is_risky in zip(tasks, risky, strict=True) if is_risky]
    assert [task.problem for task in last] == list(GPU.variants)
    for task in last:
        changes = [variants.difference(who.config or {}, space(task.problem).default) for who in task.competitors]
        assert changes == [{}, {}, {"pdl": True}]


def test_ratios_are_relative_to_the_default_and_sorted() -> None:
    default = record(config={"stages": 3}, timing=timed(100.0, 100.0, 102.0))
    faster = record(config={"stages": 2}, timing=timed(80.0))
    assert variants.ratios([default, faster]) == ["  0.800  stages=2", "  1.000  the default"]
    assert variants.ratios([]) == []


@pytest.mark.usefixtures("h100")
def test_every_kernel_in_triton_is_checked_in_every_element_type_and_mode() -> None:
    tasks = list(measure_tasks.checks(GPU))
    seen = {(who.kernel, task.problem.dtype, task.problem.mode) for task in tasks for who in task.competitors}
    dtypes = ("bfloat16", "float16", "float32")
    kernels = compiled_kernels()
    assert seen == {(kernel, dtype, mode) for kernel in kernels for dtype in dtypes for mode in ("forward", "train")}
    assert {task.problem.T for task in tasks} == {300}


def test_rivals_compete_at_both_shapes_with_our_kernel_as_the_baseline() -> None:
    tasks = list(measure_tasks.rivals(GPU))
    assert [task.problem for task in tasks] == list(GPU.rivals)
    assert all(task.competitors[0].kernel == task.point.baseline == "triton_scatter" for task in tasks)


def test_the_default_of_each_layer_is_compiled() -> None:
    wanted = "meta" if unable() is None else "cpu"
    assert precompile.here() == torch.device("cuda" if torch.cuda.is_available() else wanted)
    with assuming(HARDWARE["sm_90"]):
        found = precompile.cases([("triton_scatter", GPU.rivals[0])])
        assert [case.config for case in found] == [space(GPU.rivals[0]).default]
    assert found[0].target in HARDWARE
    assert found[0].hardware == precompile.gpu()


def test_a_machine_is_described_part_by_part_with_measured_rates() -> None:
    found = dict(describe_machine.parts("cpu"))
    assert list(found)[:2] == ["environment", "commit"]
    rates, memory = found["float32"], found["memory"]
    assert isinstance(rates, dict)
    assert isinstance(memory, dict)
    assert rates["matmul_tflop_per_s"] > 0
    assert min(memory["copy_gb_per_s"], memory["read_gb_per_s"]) > 0
    assert found["telemetry"] == {"reason": "a device of type cpu has no telemetry"}


@pytest.mark.parametrize("code", [0, 3])
def test_a_stand_in_runs_the_program_and_ends_as_it_does(code: int, tmp_path: Path) -> None:
    program = [sys.executable, "-c", f"print('ran'); raise SystemExit({code})"]
    words = ["--section", "LaunchStats", "--export", "ncu.ncu-rep", *program]
    done = subprocess.run(
        [sys.executable, stand_in.__file__, "ncu", *words], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == code
    assert "ran" in done.stdout
    assert "nothing was observed" in (tmp_path / "ncu.ncu-rep").read_text()


@pytest.mark.parametrize("program", all_but(["call"], ["call", "measure_tasks", "describe_machine"]))
def test_a_program_refuses_an_unknown_form(program: str, tmp_path: Path) -> None:
    words = {
        "call": ["gpx", "tiny"],
        "measure_tasks": ["gpx", "check", "x.jsonl"],
        "describe_machine": ["gpx", "x.json"],
    }[program]
    done = python_m(f"moebench.suites.firstlight.programs.{program}", *words, cwd=tmp_path)
    assert done.returncode == 1
    assert "did you mean gpu" in done.stderr
    assert not list(tmp_path.iterdir())


def test_layers_are_called_in_every_layout_under_the_memory_checker(tmp_path: Path) -> None:
    done = python_m(
        "moebench.suites.firstlight.programs.call",
        *(REHEARSAL.name, "tiny"),
        cwd=tmp_path,
        env=os.environ | {"TRITON_INTERPRET": "1"},
    )
    assert done.returncode == 0, done.stderr
    called = [line.split()[0] for line in done.stdout.splitlines()]
    assert set(called) == set(compiled_kernels())
    assert sum(".train." in line for line in done.stdout.splitlines()) == len(called) / 2


def test_a_sweep_without_a_default_is_reported(tmp_path: Path) -> None:
    (tmp_path / "sweep.jsonl").touch()
    done = python_m("moebench.suites.firstlight.programs.predicted", "sweep.jsonl", "predicted.json", cwd=tmp_path)
    assert done.returncode == 1
    assert "it holds no sweep" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_static_model_is_compared_with_a_recorded_sweep(tmp_path: Path) -> None:
    recorded = next((Path(__file__).parents[3] / "results" / "recorded").glob("cpu-sweeps-others.jsonl"))
    out = tmp_path / "predicted.json"
    done = python_m("moebench.suites.firstlight.programs.predicted", str(recorded), str(out), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found = json.loads(out.read_text())
    modelled = [one for one in found if "pairs" in one]
    assert modelled
    for one in modelled:
        assert -1 <= one["rank_correlation"] <= 1
        assert 0 < one["best_in_top"] <= 1
        assert len(one["pairs"]) == one["measured"] <= one["configurations"]
        assert all(pair["measured_ms"] > 0 and pair["predicted_ms"] > 0 for pair in one["pairs"])
