"""Routing in one launch: who takes it, what it refuses, and that it compiles for every GPU."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from fused_rules import SPECS, columns_of

from moebench.kernels.fused_router.topk_router import backend_for, route
from moebench.kernels.hardware.gpus import HARDWARE
from moebench.kernels.problem import draw_routes
from moebench.kernels.problem.router import ROUTERS, Router, RouterInputs
from moebench.kernels.problem.topk_rule import TopkRouter
from moebench.kernels.triton.launch import Launch, recording

META = torch.device("meta")


def recorded(spec: str, E: int, K: int) -> list[Launch]:
    """Return the launches of a router's forward and backward pass."""
    router = Router.parse(spec)
    logits_TE = torch.empty(4096, columns_of(router, E), device=META, requires_grad=True)
    with recording() as written:
        route(router, RouterInputs(logits_TE=logits_TE), K).gates_TK.sum().backward()
    return written


@pytest.mark.parametrize("spec", SPECS)
def test_a_top_k_router_is_one_launch_a_pass(spec: str) -> None:
    K = 1 if spec == "switch" else 3
    assert [launch.name for launch in recorded(spec, 16, K)] == ["choose_experts", "differentiate_gates"]


def test_every_router_that_is_a_rule_takes_the_kernels_and_no_other_does() -> None:
    logits_TE = torch.empty(5, 16, device=META)
    with recording():
        fused = {name for name in ROUTERS.names() if backend_for(Router.parse(name), logits_TE) is not None}
    assert fused == {name for name in ROUTERS.names() if isinstance(Router.parse(name), TopkRouter)}
    assert {Router.parse(spec).name() for spec in SPECS} == fused - {"cosine"}  # whose rule is that of softmax_topk


def test_a_router_that_chooses_by_itself_keeps_its_own_choice() -> None:
    class Reversed(type(Router.parse("topk_softmax"))):  # type: ignore[misc]
        def route(self, inputs: RouterInputs, K: int) -> tuple[torch.Tensor, torch.Tensor]:
            return super().route(inputs, K)  # type: ignore[no-any-return]

    with recording():
        assert backend_for(Reversed(), torch.empty(5, 16, device=META)) is None


@pytest.mark.parametrize("spec", SPECS)
def test_a_cpu_takes_the_plain_rule(spec: str) -> None:
    router, K = Router.parse(spec), 1 if spec == "switch" else 3
    inputs = RouterInputs(logits_TE=torch.randn(5, columns_of(router, 16), generator=torch.Generator().manual_seed(0)))
    assert backend_for(router, inputs.logits_TE) is None
    found, expected = route(router, inputs, K), draw_routes.route(router, inputs, K)
    assert torch.equal(found.ids_TK, expected.ids_TK)
    assert torch.equal(found.gates_TK, expected.gates_TK)


def test_nothing_is_asked_of_the_device() -> None:
    routing = route(Router.parse("softmax_topk"), RouterInputs(logits_TE=torch.empty(5, 7, device=META)), 3)
    assert routing.ids_TK.shape == routing.gates_TK.shape == (5, 3)


@pytest.mark.parametrize("K", [0, 8])
def test_more_choices_than_there_are_is_refused(K: int) -> None:
    with pytest.raises(ValueError, match=f"K = {K} of 7 experts: give between 1 and 7"):
        route(Router.parse("softmax_topk"), RouterInputs(logits_TE=torch.zeros(5, 7)), K)


@pytest.mark.parametrize("device", ["cpu", "meta"])
@pytest.mark.parametrize(
    ("spec", "columns", "K", "said"),
    [
        ("sigmoid_topk:groups=4,top_groups=2", 10, 3, "10 experts do not form 4 equal groups of 2 or more"),
        ("sigmoid_topk:groups=8,top_groups=2", 8, 1, "8 experts do not form 8 equal groups of 2 or more"),
        ("softmax_topk:groups=8,top_groups=2", 4, 1, "4 experts do not form 8 equal groups of 1 or more"),
        ("sigmoid_topk:groups=4,top_groups=1", 8, 3, "K = 3 of 2 experts in top_groups: give fewer, or more"),
        ("sigmoid_topk:shared_experts=2", 4, 3, "K = 3 of 2 experts: give between 1 and 2"),
    ],
)
def test_what_a_kernel_would_leave_its_tensors_for_is_refused(
    spec: str, columns: int, K: int, said: str, device: str
) -> None:
    with recording(), pytest.raises(ValueError, match=said):
        route(Router.parse(spec), RouterInputs(logits_TE=torch.empty(5, columns, device=device)), K)


@pytest.mark.parametrize("biases", [7, 9])
def test_one_bias_of_every_expert_is_asked_for(biases: int) -> None:
    inputs = RouterInputs(logits_TE=torch.empty(5, 8, device=META), bias_E=torch.empty(biases, device=META))
    with recording(), pytest.raises(ValueError, match=rf"bias_E is \({biases},\): give one bias for each of 8 experts"):
        route(Router.parse("sigmoid_topk"), inputs, 2)


COMPILED = """
import json, sys
from moebench.kernels.compiler.compile import Target, compile_launch
from test_topk_router import recorded
spec, E, K, *targets = sys.argv[1:]
for target in targets:
    for launch in recorded(spec, int(E), int(K)):
        code = compile_launch(launch, Target.named(target))
        print(json.dumps([target, launch.name, code.spill_bytes]))
"""


def assert_compiles_without_spills(spec: str, E: int, K: int, targets: list[str]) -> None:
    """Compile in a process that does not interpret Triton."""
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    environment["PYTHONPATH"] = os.pathsep.join([*sys.path, str(Path(__file__).parent)])
    command = [sys.executable, "-c", COMPILED, spec, str(E), str(K), *targets]
    answer = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stderr
    lines = [json.loads(line) for line in answer.stdout.splitlines()]
    assert lines == [[target, name, 0] for target in targets for name in ("choose_experts", "differentiate_gates")]


def test_the_router_of_deepseek_v3_compiles_for_hopper_without_spills() -> None:
    assert_compiles_without_spills("sigmoid_topk:groups=8,top_groups=4,bias=0.1,scale=2.5", 256, 8, ["sm_90"])


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    ("spec", "E", "K"),
    [
        ("sigmoid_topk:groups=8,top_groups=4,bias=0.1,scale=2.5", 256, 8),
        ("softmax_topk:groups=8,top_groups=3,scale=16", 160, 6),
        ("sqrt_softplus_topk:bias=0.1,scale=1.5", 384, 6),
        ("topk_softmax", 64, 8),
        ("topk_sigmoid", 16, 1),
        ("softmax_topk", 8192, 16),
    ],
)
def test_routers_compile_for_every_gpu_without_spills(spec: str, E: int, K: int) -> None:
    assert_compiles_without_spills(spec, E, K, list(HARDWARE))
