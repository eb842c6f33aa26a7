"""Released checkpoints and the modules of transformers come in, and go out again, bit for bit."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from moebench.kernels.module.hugging_face import MIXTRAL, OLMOE, QWEN3_MOE, SeparateExperts, read_experts

E, D, F = 3, 4, 5
FORMS = {"mixtral": MIXTRAL, "qwen3_moe": QWEN3_MOE, "olmoe": OLMOE}
forms = pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
SIZES: dict[str, object] = {
    "vocab_size": 11,
    "hidden_size": 8,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "head_dim": 4,
    "num_experts_per_tok": 2,
    "mlp_only_layers": [],
    "pad_token_id": 0,
}


def released(form: SeparateExperts, layer: int = 0, dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    """One layer as a checkpoint has it."""
    shapes = {form.gate: (F, D), form.up: (F, D), form.down: (D, F)}
    path = form.experts.format(layer=layer)
    return {f"{path}.{e}.{name}.weight": torch.randn(s).to(dtype) for e in range(E) for name, s in shapes.items()}


def test_keys_are_those_of_the_released_checkpoints() -> None:
    fused = {"gate_up_proj": torch.zeros(1, 2 * F, D), "down_proj": torch.zeros(1, D, F)}
    mixtral = "model.layers.31.block_sparse_moe.experts.0"
    assert set(MIXTRAL.separate(fused, layer=31)) == {f"{mixtral}.{name}.weight" for name in ("w1", "w2", "w3")}
    olmoe = "model.layers.0.mlp.experts.0"
    assert set(OLMOE.separate(fused, layer=0)) == {f"{olmoe}.{n}_proj.weight" for n in ("gate", "up", "down")}


@forms
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_there_and_back_is_the_same(form: SeparateExperts, dtype: torch.dtype) -> None:
    state = released(form, layer=3, dtype=dtype)
    fused = form.fuse({**released(form, layer=0), **state, "lm_head.weight": torch.zeros(1)}, layer=3)
    assert {name: (tuple(t.shape), t.dtype) for name, t in fused.items()} == {
        "gate_up_proj": ((E, 2 * F, D), dtype),
        "down_proj": ((E, D, F), dtype),
    }
    back = form.separate(fused, layer=3)
    assert back.keys() == state.keys()
    assert all(torch.equal(back[key], tensor) for key, tensor in state.items())


@forms
def test_gate_rows_come_first_and_experts_in_numerical_order(form: SeparateExperts) -> None:
    path = form.experts.format(layer=0)
    order = [10, 2, *range(2), *range(3, 10)]  # as no sorting of names gives it
    state = {
        f"{path}.{e}.{name}.weight": torch.full(shape, 100 * e + offset)
        for e in order
        for name, shape, offset in ((form.up, (F, D), 1), (form.gate, (F, D), 0), (form.down, (D, F), 2))
    }
    fused = form.fuse(state, layer=0)
    for e in range(11):
        assert fused["gate_up_proj"][e, :F].unique().item() == 100 * e
        assert fused["gate_up_proj"][e, F:].unique().item() == 100 * e + 1
        assert fused["down_proj"][e].unique().item() == 100 * e + 2


@forms
def test_what_comes_out_is_a_contiguous_copy_without_history(form: SeparateExperts) -> None:
    fused = {"gate_up_proj": torch.randn(E, 2 * F, D), "down_proj": torch.randn(E, D, F)}
    leaves = {name: tensor.requires_grad_() for name, tensor in fused.items()}
    parts = form.separate(leaves, layer=0)
    again = form.fuse({key: part.requires_grad_() for key, part in parts.items()}, layer=0)
    assert not any(tensor.requires_grad for tensor in again.values())
    pointers = [t.untyped_storage().data_ptr() for t in (*fused.values(), *parts.values(), *again.values())]
    assert len(set(pointers)) == len(pointers)
    assert all(part.is_contiguous() for part in parts.values())


def test_a_path_of_its_own_is_one_replacement_away() -> None:
    nested = dataclasses.replace(QWEN3_MOE, experts="model.language_model.layers.{layer}.mlp.experts")
    state = released(nested, layer=1)
    assert next(iter(state)).startswith("model.language_model.layers.1.")
    assert nested.separate(nested.fuse(state, layer=1), layer=1).keys() == state.keys()


@forms
def test_a_missing_layer_expert_or_matrix_is_named(form: SeparateExperts) -> None:
    state = released(form)
    with pytest.raises(ValueError, match=r"there is no model\.layers\.7\..*experts\.0\."):
        form.fuse(state, layer=7)
    for e, name in ((1, form.gate), (1, form.down), (2, form.up), (0, form.down)):
        key = f"{form.experts.format(layer=0)}.{e}.{name}.weight"
        with pytest.raises(ValueError, match=f"there is no {key}"):
            form.fuse({other: tensor for other, tensor in state.items() if other != key}, layer=0)


@forms
def test_a_wrong_shape_is_named(form: SeparateExperts) -> None:
    key = f"{form.experts.format(layer=0)}.1.{form.up}.weight"
    with pytest.raises(ValueError, match=rf"{key} is \(6, 4\): with D = 4, F = 5 give \(5, 4\)"):
        form.fuse({**released(form), key: torch.zeros(6, 4)}, layer=0)
    with pytest.raises(ValueError, match=r"gate_up_proj is \(3, 5, 4\): .* give \(3, 10, 4\)"):
        form.separate({"gate_up_proj": torch.zeros(E, F, D), "down_proj": torch.zeros(E, D, F)}, layer=0)


def test_biased_or_ungated_experts_have_no_separate_form() -> None:
    with pytest.raises(ValueError, match="down_proj, down_proj_bias, gate_up_proj"):
        OLMOE.separate(dict.fromkeys(["gate_up_proj", "down_proj", "down_proj_bias"], torch.zeros(1)), layer=0)
    with pytest.raises(ValueError, match="weights are empty"):
        OLMOE.separate({}, layer=0)


def tiny_model(name: str) -> nn.Module:
    transformers: Any = pytest.importorskip("transformers")
    config = transformers.AutoConfig.for_model(
        name, **SIZES, num_local_experts=E, num_experts=E, intermediate_size=6, moe_intermediate_size=6
    )
    model: nn.Module = transformers.AutoModelForCausalLM.from_config(config)
    return model


@pytest.mark.parametrize("name", FORMS)
def test_files_written_by_transformers_hold_these_keys_and_values(name: str, tmp_path: Path) -> None:
    """It saves in the form of the release, and keeps the fused one in memory."""
    model: Any = tiny_model(name)
    safetensors: Any = pytest.importorskip("safetensors.torch")
    model.save_pretrained(tmp_path)
    state = safetensors.load_file(tmp_path / "model.safetensors")
    for layer in range(2):
        fused = dict(model.model.layers[layer].mlp.experts.named_parameters())
        found = FORMS[name].fuse(state, layer=layer)
        assert all(torch.equal(found[key], tensor) for key, tensor in fused.items())
        exported = FORMS[name].separate(fused, layer=layer)
        assert all(torch.equal(state[key], tensor) for key, tensor in exported.items())


class Experts(nn.Module):
    """What a model's experts look like from outside."""

    def __init__(self, act: nn.Module, *parameters: str) -> None:
        super().__init__()
        shapes: dict[str, tuple[int, ...]] = {
            "gate_up_proj": (E, 2 * F, D),
            "up_proj": (E, F, D),
            "down_proj": (E, D, F),
        }
        shapes |= {"gate_up_proj_bias": (E, 2 * F), "up_proj_bias": (E, F), "down_proj_bias": (E, D)}
        for name in parameters:
            self.register_parameter(name, nn.Parameter(torch.randn(shapes[name])))
        self.act_fn = act


GATED = ("gate_up_proj", "down_proj")
UNGATED = ("up_proj", "down_proj")


@pytest.mark.parametrize(
    ("act", "name"), [(nn.SiLU(), "silu"), (nn.GELU(), "gelu"), (nn.ReLU(), "relu")], ids=["silu", "gelu", "relu"]
)
@pytest.mark.parametrize("parameters", [GATED, UNGATED, (*GATED, "gate_up_proj_bias", "down_proj_bias")], ids=len)
def test_a_module_is_read_without_a_copy(act: nn.Module, name: str, parameters: tuple[str, ...]) -> None:
    experts = Experts(act, *parameters)
    weights, activation = read_experts(experts)
    assert activation == name
    up = parameters[0]
    sources = [experts._parameters.get(key) for key in (up, "down_proj", f"{up}_bias", "down_proj_bias")]
    found = [weights.w_up_EUD, weights.w_down_EDF, weights.b_up_EU, weights.b_down_ED]
    assert all(one is other for one, other in zip(sources, found, strict=True))


@pytest.mark.parametrize("act", [nn.GELU(approximate="tanh"), nn.LeakyReLU(), nn.ReLU6(), nn.Identity()], ids=str)
@pytest.mark.parametrize("parameters", [GATED, UNGATED], ids=["gated", "ungated"])
def test_another_activation_is_refused(act: nn.Module, parameters: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match=r"Experts applies none of silu, gelu, relu.*no kernel here"):
        read_experts(Experts(act, *parameters))


class Clamped(Experts):
    """A limit on both halves, as DeepSeek-V4 and gpt-oss have one."""

    def _apply_gate(self, gate_up: Tensor) -> Tensor:
        gate, up = gate_up.clamp(-10, 10).chunk(2, dim=-1)
        return nn.functional.silu(gate) * up


def test_a_clamp_around_a_usual_activation_is_seen() -> None:
    with pytest.raises(ValueError, match="Clamped applies none of silu"):
        read_experts(Clamped(nn.SiLU(), *GATED))


@pytest.mark.parametrize(
    ("flag", "value"), [("is_transposed", True), ("is_concatenated", False), ("has_post_expert_norm", True)]
)
def test_another_layout_is_refused_by_the_flag_that_says_so(flag: str, value: bool) -> None:
    experts = Experts(nn.SiLU(), *GATED)
    setattr(experts, flag, not value)
    read_experts(experts)
    setattr(experts, flag, value)
    with pytest.raises(ValueError, match=f"Experts has {flag} = {value}"):
        read_experts(experts)


def test_gpt_oss_is_refused() -> None:
    modeling: Any = pytest.importorskip("transformers.models.gpt_oss.modeling_gpt_oss")
    config = modeling.GptOssConfig(hidden_size=8, intermediate_size=4, num_local_experts=2)
    with pytest.raises(ValueError, match="GptOssExperts has is_transposed = True"):
        read_experts(modeling.GptOssExperts(config))


def test_a_module_without_fused_weights_is_refused_with_what_it_has() -> None:
    with pytest.raises(ValueError, match="Linear has no gate_up_proj and down_proj, but weight, bias"):
        read_experts(nn.Linear(2, 2))
    with pytest.raises(ValueError, match="Experts has no gate_up_proj and down_proj, but up_proj"):
        read_experts(Experts(nn.SiLU(), "up_proj"))
