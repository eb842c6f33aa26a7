"""Weights are read at every call: no copy outlives a change of the parameter that it was made of."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import tiny_models
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

pytest.importorskip("transformers.integrations.moe")

import moebench.transformers  # noqa: F401  # registers the name
from moebench.integrations.transformers.converted_weights import forget, read_weights
from moebench.integrations.transformers.taken_experts import experts_of
from moebench.kernels.module.hugging_face import ExpertsLayout


@pytest.fixture
def experts() -> Any:
    """Return experts whose gate and up columns take turns, as those of gpt-oss do."""
    return next(experts_of(tiny_models.tiny_model("gpt_oss", experts_implementation="moebench")))


def address(experts: Any) -> int:
    return read_weights(ExpertsLayout.of(experts), experts).w_up_EUD.data_ptr()


def assert_current(experts: Any) -> None:
    """Compare what is read with the parameters, by definition."""
    weights = read_weights(ExpertsLayout.of(experts), experts)
    gates_then_ups = torch.cat((experts.gate_up_proj[..., ::2], experts.gate_up_proj[..., 1::2]), -1)
    assert torch.equal(weights.w_up_EUD, gates_then_ups.mT)
    assert torch.equal(weights.w_down_EDF, experts.down_proj.mT)
    bias = experts.gate_up_proj_bias
    assert weights.b_up_EU is not None
    assert torch.equal(weights.b_up_EU, torch.cat((bias[:, ::2], bias[:, 1::2]), -1))
    assert weights.b_down_ED is experts.down_proj_bias


@torch.no_grad()
def test_inference_keeps_one_copy_of_what_has_to_be_copied(experts: Any) -> None:
    assert_current(experts)
    assert address(experts) == address(experts)
    weights = read_weights(ExpertsLayout.of(experts), experts)
    assert weights.w_down_EDF.data_ptr() == experts.down_proj.data_ptr()


def replace(experts: Any) -> None:
    experts.gate_up_proj = nn.Parameter(torch.randn_like(experts.gate_up_proj))


def reallocate(experts: Any) -> None:
    """The new parameter may well get the memory of the old one, and its count of writes."""
    shape = experts.gate_up_proj.shape
    del experts.gate_up_proj
    experts.gate_up_proj = nn.Parameter(torch.randn(shape))


def another_data(experts: Any) -> None:
    experts.gate_up_proj.data = torch.randn_like(experts.gate_up_proj)


def load(experts: Any) -> None:
    experts.load_state_dict({name: torch.randn_like(tensor) for name, tensor in experts.state_dict().items()})


def step(experts: Any) -> None:
    for parameter in experts.parameters():
        parameter.grad = torch.randn_like(parameter)
    torch.optim.AdamW(experts.parameters(), lr=1.0).step()


CHANGES: list[Callable[[Any], object]] = [
    replace,
    reallocate,
    another_data,
    load,
    step,
    lambda experts: experts.gate_up_proj.mul_(2),
    lambda experts: experts.gate_up_proj_bias.add_(1),
    lambda experts: experts.to(torch.bfloat16),
    lambda experts: experts.double(),
]


@pytest.mark.parametrize("change", CHANGES)
@torch.no_grad()
def test_a_change_of_the_parameters_is_seen(experts: Any, change: Callable[[Any], object]) -> None:
    address(experts)
    change(experts)
    assert_current(experts)


@torch.no_grad()
def test_a_write_through_data_is_seen_when_the_copy_is_forgotten(experts: Any) -> None:
    address(experts)
    experts.gate_up_proj.data.mul_(2)
    forget(experts)
    assert_current(experts)


def test_tensors_of_inference_mode_are_read_each_time(experts: Any) -> None:
    with torch.inference_mode():
        experts.gate_up_proj = nn.Parameter(torch.randn_like(experts.gate_up_proj), requires_grad=False)
        address(experts)
        experts.gate_up_proj.mul_(2)
        assert_current(experts)


def test_a_copy_made_in_inference_mode_serves_frozen_experts_in_training(experts: Any) -> None:
    experts.requires_grad_(requires_grad=False)
    with torch.inference_mode():
        kept = address(experts)
    assert address(experts) == kept
    tokens = torch.randn(3, 32, requires_grad=True)
    experts(tokens, torch.zeros(3, 1, dtype=torch.int64), torch.ones(3, 1)).sum().backward()
    assert tokens.grad is not None


def test_a_step_of_training_frees_the_copy_and_gives_gradients(experts: Any) -> None:
    with torch.no_grad():
        kept = read_weights(ExpertsLayout.of(experts), experts).w_up_EUD
    weights = read_weights(ExpertsLayout.of(experts), experts)
    assert weights.w_up_EUD.requires_grad
    assert weights.w_up_EUD.data_ptr() != kept.data_ptr()
    (gradient,) = torch.autograd.grad(weights.w_up_EUD[:, 0].sum(), experts.gate_up_proj)
    assert torch.equal(gradient[..., 0], torch.ones_like(gradient[..., 0]))
    assert not gradient[..., 1:].any()


class LowRank(nn.Module):
    """Adapter that adds a product of two small matrices to a parameter, as LoRA does."""

    def __init__(self, like: Tensor) -> None:
        super().__init__()
        experts, rows, columns = like.shape
        self.a = nn.Parameter(torch.randn(experts, rows, 2))
        self.b = nn.Parameter(torch.randn(experts, 2, columns))

    def forward(self, weight: Tensor) -> Tensor:
        return weight + self.a @ self.b


@pytest.mark.parametrize("family", ["mixtral", "gpt_oss"])
def test_adapters_are_computed_at_every_call_and_learn(family: str) -> None:
    model = tiny_models.tiny_model(family, experts_implementation="moebench")
    experts: Any = next(experts_of(model))
    ids = torch.randint(2, 60, (1, 5))
    plain = model(input_ids=ids).logits
    parametrize.register_parametrization(experts, "gate_up_proj", LowRank(experts.gate_up_proj))
    changed = model(input_ids=ids).logits
    assert not torch.allclose(changed, plain)
    changed.sum().backward()
    adapter = experts.parametrizations.gate_up_proj[0]
    assert adapter.a.grad.norm() > 0
    with torch.no_grad():
        model(input_ids=ids)
        adapter.b.zero_()
        assert torch.equal(model(input_ids=ids).logits, plain)
    model.set_experts_implementation("eager")
    model.set_experts_implementation("moebench")
    with torch.no_grad():
        assert torch.equal(model(input_ids=ids).logits, plain)
