"""Tiny models of every family of transformers compute the same under "moebench" as with their own experts."""

from __future__ import annotations

from typing import Any, NamedTuple

import experts_survey
import pytest
import tiny_models
import torch
from exhaustive import all_but
from pages import ROOT
from torch import Tensor, nn

pytest.importorskip("transformers.integrations.moe")

import moebench.transformers
from moebench.integrations.transformers import taken_experts
from moebench.integrations.transformers.taken_experts import RefusedExperts, experts_of
from moebench.kernels.module.apply_experts import apply_experts

LISTED = experts_survey.listed((ROOT / "docs/models.md").read_text())
TAKEN = [family for family, kinds in LISTED.items() if not any(how.startswith("refused") for how in kinds.values())]
REFUSED = [family for family in LISTED if family not in TAKEN]
BOUNDS = {torch.float32: 1e-5, torch.bfloat16: 1e-2}
NEGLIGIBLE = 1e-6
"""Share of the norm of all gradients that rounding may take of each: some are differences of nearly equal numbers."""
NEW_TOKENS = 20


class Results(NamedTuple):
    logits: Tensor
    gradients: dict[str, Tensor]
    tokens: Tensor | None


def inputs(model: Any, ids: Tensor) -> dict[str, Tensor]:
    """Return the arguments of a forward; a decoder gets the ids of the encoder."""
    both = getattr(model.config, "is_encoder_decoder", False)
    return {"input_ids": ids, "decoder_input_ids": ids} if both else {"input_ids": ids}


def results(model: Any, ids: Tensor) -> Results:
    model.zero_grad()
    torch.manual_seed(0)  # diffusion starts from random tokens
    logits = model(**inputs(model, ids)).logits
    logits.square().mean().backward()
    gradients = {name: tensor.grad.clone() for name, tensor in model.named_parameters() if tensor.grad is not None}
    tokens = None
    if model.can_generate():
        torch.manual_seed(0)
        settings = model.generation_config
        if hasattr(settings, "max_denoising_steps"):
            settings.max_denoising_steps = 8  # each feeds on the rounding of the one before
        tokens = model.generate(input_ids=ids, max_new_tokens=NEW_TOKENS, do_sample=False)
        tokens = getattr(tokens, "sequences", tokens)
    return Results(logits.detach(), gradients, tokens)


def error(found: Tensor, expected: Tensor) -> float:
    return float((found.double() - expected.double()).norm() / expected.double().norm())


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")  # transformers' own, of one family
@pytest.mark.parametrize("family", all_but(("mixtral", "gpt_oss", "nemotron_h", "longcat_flash"), TAKEN))
def test_a_model_gives_the_same_logits_gradients_and_tokens(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[Any, ...]] = []

    def counted(*arguments: Any, **options: Any) -> Tensor:
        calls.append(arguments)
        return apply_experts(*arguments, **options)

    monkeypatch.setattr(taken_experts, "apply_experts", counted)
    model = tiny_models.tiny_model(family)
    ids = torch.randint(2, 60, (2, 7), generator=torch.Generator().manual_seed(1))
    model.set_experts_implementation("eager")
    expected = results(model, ids)
    assert calls == []
    model.set_experts_implementation("moebench")
    found = results(model, ids)
    assert calls
    bound = BOUNDS[torch.float32]
    assert error(found.logits, expected.logits) < bound
    assert found.gradients.keys() >= expected.gradients.keys()
    for name in found.gradients.keys() - expected.gradients.keys():
        assert "expert_" in name  # experts that are a module each have no gradient of their own where no token came
        assert not found.gradients[name].any()
    negligible = NEGLIGIBLE * sum(gradient.norm() for gradient in expected.gradients.values())
    for name, gradient in expected.gradients.items():
        assert (found.gradients[name] - gradient).norm() < bound * gradient.norm() + negligible, name
    assert (found.tokens is None) == (expected.tokens is None)
    if found.tokens is not None and expected.tokens is not None:
        prompt = 1 if model.config.is_encoder_decoder else ids.shape[1]
        assert found.tokens.shape[1] >= prompt + NEW_TOKENS
        assert torch.equal(found.tokens, expected.tokens)


@pytest.mark.parametrize("family", all_but(("gpt_oss",), TAKEN))
def test_the_experts_of_a_model_agree_in_bfloat16(family: str) -> None:
    """On the tokens and routes of a forward in float32: in bfloat16 a router may choose otherwise for any reason."""
    model = tiny_models.tiny_model(family, experts_implementation="eager")
    called: dict[nn.Module, tuple[Tensor, ...]] = {}
    for experts in experts_of(model):
        experts.register_forward_pre_hook(lambda module, arguments: called.setdefault(module, arguments) and None)
    with torch.no_grad():
        model(**inputs(model, torch.randint(2, 60, (2, 7), generator=torch.Generator().manual_seed(1))))
    assert called
    bound = BOUNDS[torch.bfloat16]
    for experts, (tokens, ids, gates) in called.items():
        rounded = tokens.bfloat16()
        exact = outcome(experts.bfloat16().float(), rounded.float(), ids, gates)
        model.set_experts_implementation("moebench")
        found = outcome(experts.bfloat16(), rounded, ids, gates)
        model.set_experts_implementation("eager")
        for name, expected in exact.items():
            assert error(found[name], expected) < bound, name


def outcome(experts: Any, tokens: Tensor, ids: Tensor, gates: Tensor) -> dict[str, Tensor]:
    """Return the result of experts and all gradients, for random gradients of the result."""
    experts.zero_grad()
    tokens, gates = tokens.detach().clone().requires_grad_(), gates.detach().clone().requires_grad_()
    y = experts(tokens, ids, gates)
    y.backward(torch.randn(y.shape, generator=torch.Generator().manual_seed(2)).bfloat16().to(y.dtype))
    gradients = {name: tensor.grad for name, tensor in experts.named_parameters() if tensor.grad is not None}
    return {"y": y.detach(), "tokens": tokens.grad, "gates": gates.grad, **gradients}


@pytest.mark.parametrize("family", all_but(("llama4",), REFUSED))
def test_a_model_that_is_not_taken_is_refused_when_it_is_made_and_when_it_is_switched(family: str) -> None:
    (kind,) = LISTED[family]
    with pytest.raises(RefusedExperts, match=f"^{kind} .*: leave experts_implementation out$"):
        tiny_models.tiny_model(family, experts_implementation="moebench")
    model = tiny_models.tiny_model(family)
    before = model.get_experts_implementation()
    with pytest.raises(RefusedExperts, match=f"^{kind} "):
        moebench.transformers.use(model)
    assert model.get_experts_implementation() == before


def test_the_page_lists_all_experts_of_the_installed_transformers() -> None:
    found = tiny_models.routed_experts()
    assert {family: set(kinds) for family, kinds in LISTED.items()} == found, "run `python docs/generate.py`"
