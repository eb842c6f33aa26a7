"""Experts that ask transformers for no implementation get a forward in the place of their own, there and back."""

from __future__ import annotations

import copy
import hashlib
import importlib
import inspect
import pickle
from pathlib import Path
from typing import Any

import pytest
import tiny_models
import torch
from torch import nn

pytest.importorskip("transformers.integrations.moe")

import moebench.transformers
from moebench.integrations.transformers.own_forwards import KINDS
from moebench.integrations.transformers.taken_experts import RefusedExperts, TakenExperts, experts_of, layout_of

IDS = torch.tensor([[5, 6, 7, 8, 9]])
READ = {  # sources that the adapters were written for, by the first digits of their SHA-256
    "transformers.models.dbrx.modeling_dbrx.DbrxExpertGLU": "7c930304f5859ca8",
    "transformers.models.dbrx.modeling_dbrx.DbrxExperts": "e4f28d40138e7a9a",
    "transformers.models.longcat_flash.modeling_longcat_flash.LongcatFlashExperts": "22549241b9e01225",
    "transformers.models.nllb_moe.modeling_nllb_moe.NllbMoeDenseActDense": "b5ee0735ba5c073a",
    "transformers.models.nllb_moe.modeling_nllb_moe.NllbMoeExperts": "9e8e0ebf0b9709c8",
    "transformers.models.step3p7.modeling_step3p7.Step3p7Experts": "fbd4a02bd3c78b92",
    "transformers.models.switch_transformers.modeling_switch_transformers.SwitchTransformersDenseActDense": (
        "0dd46205893db8de"
    ),
    "transformers.models.switch_transformers.modeling_switch_transformers.SwitchTransformersExperts": (
        "708da9c4cdc241c0"
    ),
}


def first_of(family: str, implementation: str) -> Any:
    """Return the first experts of a tiny model, which are the same for every implementation."""
    return next(experts_of(tiny_models.tiny_model(family, experts_implementation=implementation)))


def switch_call() -> tuple[torch.Tensor, ...]:
    """Return tokens, a mask whose second token has no expert, and gate weights."""
    mask = nn.functional.one_hot(torch.tensor([[3], [0], [1], [3]]), 4)
    mask[1] = 0
    return torch.randn(4, 32), mask, torch.rand(4, 1)


def test_a_model_is_loaded_switched_and_switched_back(tmp_path: Path) -> None:
    saved = tiny_models.tiny_model("longcat_flash")
    saved.save_pretrained(tmp_path)
    model = type(saved).from_pretrained(tmp_path, experts_implementation="moebench")
    experts: Any = next(experts_of(model))
    assert isinstance(experts.moebench, TakenExperts)
    with torch.no_grad():
        expected = saved(IDS).logits
        torch.testing.assert_close(model(IDS).logits, expected)
        model.set_experts_implementation("eager")
        assert not hasattr(experts, "moebench")
        assert model.get_experts_implementation() == {"": "eager"}
        assert torch.equal(model(IDS).logits, expected)
    moebench.transformers.use(model, dispatch="scatter")
    assert experts.moebench.dispatch == "scatter"
    with pytest.raises(ValueError, match="does not support setting experts implementation"):
        model.set_experts_implementation("grouped_mm")
    assert experts.moebench.dispatch == "scatter"
    model.set_experts_implementation("batched_mm")  # transformers takes it, and the experts compute themselves
    assert not hasattr(experts, "moebench")
    assert model.get_experts_implementation() == {"": "eager"}


def test_one_backbone_of_several_is_switched() -> None:
    model = tiny_models.tiny_model("step3p7", experts_implementation="eager")
    model.set_experts_implementation({"text_config": "moebench"})
    assert model.get_experts_implementation()["text_config"] == "moebench"
    assert all(hasattr(experts, "moebench") for experts in experts_of(model))


def test_copies_and_pickles_compute_with_their_own_parameters(monkeypatch: pytest.MonkeyPatch) -> None:
    experts = first_of("longcat_flash", "moebench")
    arguments = torch.randn(3, 32), torch.tensor([[0, 4], [4, 1], [3, 2]]), torch.rand(3, 2)
    pickled = pickle.dumps(experts)
    kind = type(experts)
    expected = experts(*arguments)
    for other in (copy.copy(experts), copy.deepcopy(experts)):
        assert torch.equal(other(*arguments), expected)
    other = copy.deepcopy(experts)
    with torch.no_grad():
        other.down_proj.zero_()
    assert torch.equal(experts(*arguments), expected)
    zero_expert = arguments[0] * (arguments[2] * (arguments[1] == 4)).sum(1, keepdim=True)
    torch.testing.assert_close(other(*arguments), zero_expert)
    monkeypatch.setattr(kind, "forward", kind.forward.__wrapped__)  # as in a process that has taken none yet
    loaded = pickle.loads(pickled)  # noqa: S301
    assert hasattr(kind.forward, "moebench")
    assert torch.equal(loaded(*arguments), expected)


def test_arguments_may_be_given_by_name() -> None:
    experts = first_of("dbrx", "moebench")
    tokens, ids, gates = torch.randn(2, 3, 32), torch.randint(0, 4, (6, 2)), torch.rand(6, 2)
    found = experts(tokens, top_k_weights=gates, top_k_index=ids)
    assert torch.equal(found, experts(tokens, ids, gates))
    torch.testing.assert_close(found, first_of("dbrx", "eager")(tokens, ids, gates))


@torch.no_grad()
def test_a_change_of_parameters_that_are_copied_is_seen() -> None:
    for family, name in (("dbrx", "mlp.v1"), ("switch_transformers", "expert_2.wi.weight")):
        experts = first_of(family, "moebench")
        layout: Any = layout_of(experts)
        before = layout.weights(experts).w_up_EUD
        assert layout.weights(experts).w_up_EUD is before
        experts.get_parameter(name).zero_()
        changed = layout.weights(experts).w_up_EUD
        rows = changed[:, 16:] if family == "dbrx" else changed[2]
        assert not rows.any()
        assert before.any()


def test_a_token_without_an_expert_gets_zeros() -> None:
    arguments = switch_call()
    found = first_of("switch_transformers", "moebench")(*arguments)
    torch.testing.assert_close(found, first_of("switch_transformers", "eager")(*arguments))
    assert not found[1].any()


def test_dropout_is_drawn_by_the_forward_of_transformers() -> None:
    for family in ("switch_transformers", "nllb_moe"):
        own, taken = (first_of(family, name).train() for name in ("eager", "moebench"))
        arguments = (
            switch_call()
            if family == "switch_transformers"
            else (
                torch.randn(4, 32),
                torch.randint(0, 2, (4, 4)),
                torch.rand(4, 4),
            )
        )
        results = []
        for experts in (own, taken):
            torch.manual_seed(0)
            results.append(experts(*arguments))
        assert torch.equal(*results)


class Doubled(nn.Linear):
    """Linear map that computes something else than its weight says, as an adapter does."""

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return 2 * super().forward(tokens)


def test_maps_that_are_not_torchs_own_compute_themselves_or_are_refused() -> None:
    arguments = switch_call()
    experts = first_of("switch_transformers", "moebench")
    before = experts(*arguments)
    for i in range(4):
        doubled = Doubled(16, 32, bias=False)
        doubled.weight = experts[f"expert_{i}"].wo.weight
        experts[f"expert_{i}"].wo = doubled
    torch.testing.assert_close(experts(*arguments), 2 * before)
    with pytest.raises(RefusedExperts, match="SwitchTransformersExperts multiplies by Doubled, whose weights"):
        layout_of(experts)


@pytest.mark.parametrize("limit", [float("inf"), 0.01])
def test_experts_that_clamp_after_the_activation_compute_themselves(
    limit: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, theirs = first_of("step3p7", "moebench"), first_of("step3p7", "eager")
    ours.limit = theirs.limit = limit
    calls: list[object] = []

    def counted(_: TakenExperts, *given: Any) -> Any:
        calls.append(given)
        return theirs(*given[1:])

    monkeypatch.setattr(TakenExperts, "forward", counted)
    arguments = torch.randn(3, ours.hidden_dim), torch.tensor([[0, 1], [2, 3], [1, 2]]), torch.rand(3, 2)
    torch.testing.assert_close(ours(*arguments), theirs(*arguments))
    assert len(calls) == (limit == float("inf"))


def test_a_class_of_another_source_is_not_taken_for_that_of_transformers() -> None:
    kind = type("DbrxExperts", (nn.Module,), {})
    with pytest.raises(RefusedExperts, match="DbrxExperts computes its experts itself and asks for no experts_impl"):
        layout_of(kind())


def test_the_installed_classes_are_those_that_were_read() -> None:
    """When this fails, read the sources anew, and change the adapters or these sums."""
    assert READ.keys() >= KINDS.keys()
    for name, digest in READ.items():
        module, kind = name.rsplit(".", 1)
        source = inspect.getsource(getattr(importlib.import_module(module), kind))
        assert hashlib.sha256(source.encode()).hexdigest()[:16] == digest, name
