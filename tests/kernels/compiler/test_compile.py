"""The kernels compile for GPUs that this machine does not have, to machine code no worse than the accepted one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from moebench.common.names import UnknownName
from moebench.kernels.catalog import KERNELS
from moebench.kernels.compiler import compile as compiling
from moebench.kernels.compiler.compile import META, Target, compile_launch, launches
from moebench.kernels.compiler.machine_code import CodeCounters
from moebench.kernels.compiler.survey import CompileOutcome, cases, compiled_kernels, references
from moebench.kernels.hardware.device_limits import assuming
from moebench.kernels.hardware.gpus import HARDWARE
from moebench.kernels.problem.models import model
from moebench.kernels.triton.launch import Launch
from moebench.kernels.triton.tiles import Tiles
from moebench.results.counter_changes import changes
from moebench.results.counters import CountersError, read
from moebench.suites.gate import compiled_layers

triton = pytest.importorskip("triton")

ROOT = Path(__file__).parents[3]
ACCEPTED = ROOT / "results" / "recorded" / "counters"
try:
    accepted = read(ACCEPTED, "machine_code")
except CountersError as error:
    OTHER_VERSION = str(error)
else:
    OTHER_VERSION = ""
pytestmark = pytest.mark.xdist_group("compiled")  # its compilations are shared, and use all cores
comparable = pytest.mark.skipif(bool(OTHER_VERSION), reason=OTHER_VERSION)


COMPILING = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}


def compiled_as_accepted(*arguments: str) -> list[dict[str, Any]]:
    """Compile some of the layers that are accepted; fail when one of them got worse."""
    command = [Path(sys.executable).with_name("moebench"), "kernels", "compile", "--json", *arguments]
    answer = subprocess.run(list(map(str, command)), env=COMPILING, capture_output=True, check=False, text=True)
    assert answer.returncode == 0, answer.stderr
    found: list[dict[str, Any]] = json.loads(answer.stdout)
    assert found
    counted = compiled_layers.counted([outcome(layer) for layer in found]).families[compiled_layers.FAMILY]
    of_these = {point: accepted[point] for point in counted if point in accepted}
    assert [change for change in changes(of_these, counted, refused={}, broken={}) if change.direction.bad] == []
    assert of_these.keys() == counted.keys()
    return found


def outcome(layer: dict[str, Any]) -> CompileOutcome:
    """Return the outcome that the command printed as JSON."""
    of_kernel = cases(layer["target"], [layer["kernel"]], references(), whole=False)
    (case,) = [case for case in of_kernel if (case.model, case.problem.key) == (layer["model"], layer["problem"])]
    return CompileOutcome(case=case, launches={name: CodeCounters(**code) for name, code in layer["launches"].items()})


@pytest.fixture(scope="session")
def hopper() -> list[dict[str, Any]]:
    """Compile the default configurations of every kernel for bfloat16 on Hopper, in training and in decoding."""
    return compiled_as_accepted("--target", "sm_90", "--dtype", "bfloat16")


@comparable
@pytest.mark.exhaustive
def test_hopper_products_use_wgmma_and_tma_without_spills(hopper: list[dict[str, Any]]) -> None:
    """The fixture has compared the same layers with the accepted counters."""
    trained = [layer for layer in hopper if ".train." in layer["problem"]]
    assert {layer["kernel"] for layer in trained} == set(compiled_kernels())
    for layer in trained:
        products = {name for name in layer["launches"] if name.partition(" ")[0] in ("up", "down", "down_backward")}
        assert products >= {"up", "down", "down_backward", "down 2"}
        for name in products:
            code = layer["launches"][name]
            assert "HGMMA" in code["tensor_core"], (layer["kernel"], name)
            assert "UTMALDG" in code["bulk_copies"], (layer["kernel"], name)
            assert code["spill_bytes"] == 0, (layer["kernel"], name)
            assert not code["spills"], (layer["kernel"], name)


@comparable
@pytest.mark.exhaustive
def test_gate_and_up_come_out_of_one_product_of_256_columns(hopper: list[dict[str, Any]]) -> None:
    """A step of 64 is four products of 16 for each group of warps, and one copy of the weights of both halves."""
    for layer in hopper:
        if ".train." in layer["problem"]:
            assert layer["config"]["up"].startswith("128x256x64w8")
            assert layer["launches"]["up"]["tensor_core"] == {"HGMMA": 4}
            stages = int(layer["config"]["up"].rpartition("s")[2])
            gathered = "LDGSTS" in layer["launches"]["up"]["bulk_copies"]
            assert layer["launches"]["up"]["bulk_copies"]["UTMALDG"] == (stages if gathered else 2 * stages)


@comparable
@pytest.mark.exhaustive
def test_gradients_leave_room_for_two_programs_or_have_the_largest_tile(hopper: list[dict[str, Any]]) -> None:
    for layer in hopper:
        if ".train." in layer["problem"] and layer["kernel"] != "triton_block_sparse":
            assert layer["launches"]["down_backward"]["occupancy"] == 2
            assert layer["config"]["weights"].startswith("128x256x64w8")


@comparable
@pytest.mark.exhaustive
def test_valid_assumes_the_shared_memory_that_is_used(hopper: list[dict[str, Any]]) -> None:
    """`Tiles.shared_bytes` is never too small, and at most a quarter too large for the tiles of training."""
    for case, layer in zip(cases("sm_90", [], references(dtype="bfloat16"), whole=False), hopper, strict=True):
        assert (case.kernel, case.problem.key, case.config) == (layer["kernel"], layer["problem"], layer["config"])
        used = max(code["shared_bytes"] for code in layer["launches"].values())
        needed = Tiles.of(case.config).shared_bytes(case.problem, HARDWARE[case.target])
        assert used <= needed <= HARDWARE[case.target].shared_bytes
        if case.problem.mode == "train":
            assert needed <= 1.25 * used


SAMPLED = """
import json, random
from moebench.kernels.hardware.gpus import HARDWARE
from moebench.kernels.compiler.machine_code import all_counters
from moebench.kernels.compiler.survey import cases, compile_case, references
from moebench.kernels.triton.tiles import Tiles
for target, hardware in HARDWARE.items():
    found = random.Random(0).sample(cases(target, [], references(), whole=True), 8)
    for outcome in (compile_case(case, all_counters) for case in found):
        case = outcome.case
        used = max((code.shared_bytes for code in outcome.launches.values()), default=0)
        needed = Tiles.of(case.config).shared_bytes(case.problem, hardware)
        print(json.dumps([f"{target} {case.kernel} {case.title} {dict(case.config)}", outcome.error, used, needed]))
"""


@pytest.mark.slow
def test_valid_configurations_compile_within_the_assumed_shared_memory(tmp_path: Path) -> None:
    """A sample of the whole space of every kernel and target; a configuration that fails here is not valid."""
    answer = subprocess.run(
        [sys.executable, "-c", SAMPLED], env=COMPILING, cwd=tmp_path, capture_output=True, text=True, check=True
    )
    sample = [json.loads(line) for line in answer.stdout.splitlines()]
    assert len(sample) == 8 * len(HARDWARE)
    assert [(which, error) for which, error, _, _ in sample if error] == []
    assert [(which, used, needed) for which, _, used, needed in sample if used > needed] == []


@comparable
@pytest.mark.exhaustive
def test_one_layer_for_each_other_gpu_is_no_worse_than_accepted() -> None:
    others = [argument for name in HARDWARE if name != "sm_90" for argument in ("--target", name)]
    layers = compiled_as_accepted(
        *others, "--kernel", "triton_padded", "--model", "Mixtral-8x7B", "--dtype", "bfloat16"
    )
    assert {layer["target"] for layer in layers} == HARDWARE.keys() - {"sm_90"}
    instructions = {"sm_80": "HMMA", "sm_100": "UTCHMMA", "gfx942": "mfma"}
    for layer in layers:
        if ".train." in layer["problem"]:
            assert any(instructions[layer["target"]] in name for name in layer["launches"]["up"]["tensor_core"])


@comparable
@pytest.mark.slow
def test_every_default_configuration_for_every_gpu_is_as_accepted() -> None:
    """`moebench counters --machine-code --accept` accepts a change that is meant."""
    command = [str(Path(sys.executable).with_name("moebench")), "counters", "--machine-code"]
    answer = subprocess.run(command, cwd=ROOT, env=COMPILING, capture_output=True, check=False, text=True)
    assert answer.returncode == 0, answer.stdout + answer.stderr


def layer_launches(**fields: object) -> list[Launch]:
    problem = model("Mixtral-8x7B").problem(T=256, dtype="bfloat16", **fields)
    kernel, target = KERNELS.load("triton_scatter"), Target.named("sm_90")
    with assuming(target.hardware):
        config = kernel.space(problem, META)[0]
    return launches(kernel, problem, config, target)


def test_a_layer_without_memory_tells_its_launches() -> None:
    forward = [launch.name for launch in layer_launches()]
    assert forward == ["copy_rows", "up", "down", "sum_rows"]  # the first product is wide enough for a copy to pay
    trained = [launch.name for launch in layer_launches(mode="train", bias=True)]
    assert trained[:4] == forward
    assert {"down_backward", "weight_gradient", "bias_gradient"} <= set(trained)
    assert all(launch.programs > 0 for launch in layer_launches())


def test_interpreted_kernels_are_not_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiling, "INTERPRETED", True)
    with pytest.raises(RuntimeError, match="unset TRITON_INTERPRET"):
        compile_launch(layer_launches()[0], Target.named("sm_90"))


@pytest.mark.parametrize("name", HARDWARE)
def test_a_target_is_where_triton_thinks_it_is_until_it_has_compiled_or_failed(name: str) -> None:
    target = Target.named(name)
    driver = triton.runtime.driver
    before = driver._active
    with compiling._driver_of(target):
        assert driver.active.get_current_target() == target.gpu
    assert driver._active is before
    with pytest.raises(ZeroDivisionError), compiling._driver_of(target):
        raise ZeroDivisionError
    assert driver._active is before


def test_a_wrong_target_is_refused_with_the_nearest() -> None:
    with pytest.raises(UnknownName, match="did you mean gfx942"):
        Target.named("gfx940")


def test_nothing_is_allocated_for_a_layer_that_no_machine_could_hold() -> None:
    problem = model("Mixtral-8x7B").problem(T=1 << 20, dtype="bfloat16")
    kernel, target = KERNELS.load("triton_scatter"), Target.named("sm_90")
    with assuming(target.hardware):
        config = kernel.space(problem, META)[0]
    pointers = [a for a in launches(kernel, problem, config, target)[0].arguments if isinstance(a, torch.Tensor)]
    assert pointers
    assert all(pointer.device == META for pointer in pointers)
