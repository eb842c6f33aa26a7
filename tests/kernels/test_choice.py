"""Which kernel a layer gets when it asks for none, and what it is told when there is none."""

from __future__ import annotations

import pytest
import torch

from moebench.kernels.catalog import KERNELS, UnknownName
from moebench.kernels.choice import ON_CUDA, SCATTER_ROWS, choose, preference
from moebench.kernels.kernel import Config, Kernel
from moebench.kernels.problem import Problem

CPU = torch.device("cpu")
FEW = Problem(T=16, D=16, F=32, E=4, K=2)
MANY = FEW.replace(T=2 * SCATTER_ROWS)


@pytest.mark.parametrize(
    ("problem", "name"),
    [
        (MANY, "scatter"),
        (MANY.replace(T=MANY.T - 1), "grouped"),
        (FEW, "grouped"),
        (FEW.replace(D=7), "scatter"),  # grouped wants aligned widths
        (FEW.replace(bias=True), "grouped"),
        (FEW.replace(capacity_factor=1.0), "padded"),
        (MANY.replace(capacity_factor=1.0), "padded"),
        (FEW.replace(T=0), "grouped"),
    ],
    ids=str,
)
@pytest.mark.parametrize("mode", ["forward", "train"])
def test_on_a_cpu_rows_for_each_expert_decide(problem: Problem, name: str, mode: str) -> None:
    kernel, config = choose(problem.replace(mode=mode), CPU)
    assert kernel.name == name
    assert config == kernel.space(problem, CPU)[0]


def test_on_cuda_triton_comes_first_and_every_name_is_known() -> None:
    assert preference(FEW, torch.device("cuda", 0)) == ON_CUDA
    assert ON_CUDA[0] == "triton_scatter"
    assert {*ON_CUDA, *preference(FEW, CPU), *preference(MANY, CPU)} <= set(KERNELS.names())


def test_a_named_kernel_is_taken_whatever_the_order() -> None:
    assert choose(FEW, CPU, "loop")[0].name == "loop"


def test_a_refusal_gives_the_kernels_reason_and_the_way_out() -> None:
    with pytest.raises(ValueError, match=r"loop: is dropless, .* capacity_factor = 2; .* dispatch = 'auto'"):
        choose(FEW.replace(capacity_factor=2.0), CPU, "loop")


def test_when_nobody_can_every_reason_is_given() -> None:
    with pytest.raises(ValueError, match="no kernel can run this") as caught:
        choose(FEW.replace(capacity_factor=2.0, bias=True), CPU)
    assert all(f"{name}: " in str(caught.value) for name in preference(FEW, CPU))
    assert "bias = True" in str(caught.value)


def test_a_reference_rate_is_no_layer() -> None:
    with pytest.raises(ValueError, match="dense: is a reference rate"):
        choose(FEW, CPU, "dense")


def test_an_unknown_name_is_said_to_be_one() -> None:
    with pytest.raises(UnknownName, match="'scater': did you mean scatter"):
        choose(FEW, CPU, "scater")


def test_the_first_valid_configuration_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_default(self: Kernel, problem: Problem, config: Config, device: torch.device) -> bool:
        return config != self.space(problem, device)[0]

    scatter = KERNELS.load("scatter")
    monkeypatch.setattr(type(scatter), "valid", no_default)
    assert choose(FEW, CPU, "scatter")[1] == scatter.space(FEW, CPU)[1]
    monkeypatch.setattr(type(scatter), "valid", lambda *_: False)
    with pytest.raises(ValueError, match="scatter: has no valid configuration for T16"):
        choose(FEW, CPU, "scatter")
