"""Experts modules of transformers are read without a copy, and refused where no kernel computes what they do."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from moebench.kernels.module.hugging_face import read_experts
from moebench.kernels.module.moe_layer import MoELayer

E, D, F = 3, 4, 5


class Experts(nn.Module):
    """Fake experts module of a model, with its parameters and its activation."""

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
    ("act", "name"),
    [(nn.SiLU(), "silu"), (nn.GELU(), "gelu"), (nn.ReLU(), "relu"), (nn.GELU(approximate="tanh"), "gelu_tanh")],
    ids=["silu", "gelu", "relu", "gelu_tanh"],
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


@pytest.mark.parametrize("act", [nn.Mish(), nn.LeakyReLU(), nn.ReLU6(), nn.Softsign()], ids=str)
@pytest.mark.parametrize("parameters", [GATED, UNGATED], ids=["gated", "ungated"])
def test_another_activation_is_refused(act: nn.Module, parameters: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match=r"Experts applies none of silu, gelu, gelu_tanh, relu.*no kernel here"):
        read_experts(Experts(act, *parameters))


class Clamped(Experts):
    """Fake experts with a limit on both halves, as DeepSeek-V4 has one of 10."""

    limit = 10

    def _apply_gate(self, gate_up: Tensor) -> Tensor:
        gate, up = gate_up.chunk(2, dim=-1)
        return nn.functional.silu(gate.clamp(max=self.limit)) * up.clamp(-self.limit, self.limit)


def test_a_clamp_around_a_usual_activation_is_seen() -> None:
    experts = Clamped(nn.SiLU(), *GATED)
    assert read_experts(experts)[1] == "silu_clamp10"
    experts.limit = 12
    with pytest.raises(ValueError, match="Clamped applies none of silu"):
        read_experts(experts)


@pytest.mark.parametrize(
    ("family", "name", "activation"),
    [
        ("deepseek_v4", "DeepseekV4", "silu_clamp10"),
        ("minimax_m3_vl", "MiniMaxM3VL", "swiglu_oai"),
        ("inkling2", "Inkling2", "situ"),
        ("gemma4", "Gemma4Text", "gelu_tanh"),
        ("nemotron_h", "NemotronH", "relu2"),
    ],
)
def test_experts_of_transformers_have_the_activation_of_their_model(family: str, name: str, activation: str) -> None:
    """The formulas here are those of its own code."""
    modeling: Any = pytest.importorskip(f"transformers.models.{family}.modeling_{family}")
    small = {"hidden_size": 8, "moe_intermediate_size": 4, "intermediate_size": 4, "num_experts": 2}
    config_class = next(
        found
        for text in ("TextConfig", "VLTextConfig", "Config")
        if (found := getattr(modeling, f"{name.removesuffix('Text')}{text}", None))
    )
    config = config_class(**small)
    for field in ("num_local_experts", "n_routed_experts", "num_experts"):
        setattr(config, field, 2)
    experts = next(found for text in ("Experts", "TextExperts") if (found := getattr(modeling, name + text, None)))
    assert read_experts(experts(config))[1] == activation


@pytest.mark.parametrize("limit", [30.0, 200.0, 5e3])
def test_a_clamp_far_out_is_seen(limit: float) -> None:
    experts: Any = Experts(nn.SiLU(), *GATED)
    experts._apply_gate = lambda h: (
        nn.functional.silu(h[..., : h.shape[-1] // 2]) * h[..., h.shape[-1] // 2 :].clamp(-limit, limit)
    )
    with pytest.raises(ValueError, match="Experts applies none of silu"):
        read_experts(experts)


def test_transposed_and_alternating_weights_are_copied_into_rows() -> None:
    """gpt-oss has matrices (E, in, out), whose gate and up columns take turns, and biases in the same order."""
    plain: Any = Experts(nn.SiLU(), *GATED, "gate_up_proj_bias", "down_proj_bias")
    other: Any = Experts(nn.SiLU())
    other.is_transposed, other.is_concatenated = True, False
    other._apply_gate = lambda h: nn.functional.silu(h[..., ::2]) * h[..., 1::2]

    def in_turn(rows: Tensor) -> Tensor:
        return torch.stack(rows.chunk(2, dim=1), dim=2).flatten(1, 2)

    with torch.no_grad():
        other.gate_up_proj = nn.Parameter(in_turn(plain.gate_up_proj).mT.contiguous())
        other.gate_up_proj_bias = nn.Parameter(in_turn(plain.gate_up_proj_bias))
        other.down_proj = nn.Parameter(plain.down_proj.mT.contiguous())
        other.down_proj_bias = plain.down_proj_bias
    (expected, act), (found, same_act) = read_experts(plain), read_experts(other)
    assert act == same_act == "silu"
    assert expected.named().keys() == found.named().keys()
    for name, tensor in found.named().items():
        assert tensor.is_contiguous()
        assert torch.equal(tensor, expected.named()[name]), name


def test_a_norm_behind_the_experts_is_refused() -> None:
    experts: Any = Experts(nn.SiLU(), *GATED)
    experts.has_post_expert_norm = True
    with pytest.raises(ValueError, match="Experts has has_post_expert_norm = True"):
        read_experts(experts)


@pytest.mark.parametrize("name", ["gate_up_proj_scale_inv", "down_proj_zero_point", "lora_A", "gate_proj"])
@pytest.mark.parametrize("register", ["parameter", "buffer", "submodule"])
def test_nothing_is_accepted_of_which_a_tensor_is_not_read(name: str, register: str) -> None:
    experts = Experts(nn.SiLU(), *GATED)
    if register == "buffer":
        experts.register_buffer(name, torch.ones(E))
    else:
        holder = experts if register == "parameter" else nn.Module()
        holder.register_parameter(name, nn.Parameter(torch.ones(E)))
        if holder is not experts:
            experts.add_module("adapter", holder)
    remedy = "dequantize" if "scale" in name or "zero" in name else "from_weights"
    with pytest.raises(ValueError, match=rf"Experts also has (adapter\.)?{name}, which would not be read: .*{remedy}"):
        read_experts(experts)


SIZES: dict[str, Any] = {"hidden_size": 8, "num_local_experts": 2, "num_experts": 2}
MODULES = {  # of released models: the class, its configuration, and what is said of it
    "llama4.Llama4TextExperts": ({"intermediate_size": 6}, r"has matrices \(E, in, out\)"),
    "dbrx.DbrxExperts": ({"ffn_hidden_size": 6, "moe_num_experts": 2}, "but mlp.w1, mlp.v1, mlp.w2"),
    "inkling.InklingSharedExperts": ({"moe_intermediate_size": 6, "n_shared_experts": 2}, "also has gate_proj"),
    "longcat_flash.LongcatFlashExperts": (
        {"expert_ffn_hidden_size": 6, "n_routed_experts": 2, "zero_expert_num": 1},
        r"weights are w_up \(3, 12, 8\) .*w_down \(2, 8, 6\)",
    ),
}


@pytest.mark.parametrize("path", MODULES)
def test_experts_of_released_models_are_refused_with_a_reason(path: str) -> None:
    model, _, kind = path.partition(".")
    modeling: Any = pytest.importorskip(f"transformers.models.{model}.modeling_{model}")
    settings, words = MODULES[path]
    config = SimpleNamespace(**SIZES, hidden_act="silu", ffn_act_fn={"name": "silu"}, **settings)
    with pytest.raises(ValueError, match=words):
        MoELayer.from_experts(getattr(modeling, kind)(config))


def test_quantised_experts_are_refused_by_their_scales() -> None:
    """Stand-in for what transformers makes of the experts of a checkpoint in float8."""
    fp8: Any = pytest.importorskip("transformers.integrations.finegrained_fp8")
    config = SimpleNamespace(**SIZES, intermediate_size=8, hidden_act="silu")
    with pytest.raises(ValueError, match="FP8Experts also has down_proj_scale_inv, gate_up_proj_scale_inv"):
        read_experts(fp8.FP8Experts(config, block_size=(4, 4)))


def test_a_module_without_fused_weights_is_refused_with_what_it_has() -> None:
    with pytest.raises(ValueError, match="Linear has no gate_up_proj and down_proj, but weight, bias"):
        read_experts(nn.Linear(2, 2))
    with pytest.raises(ValueError, match="Experts has no gate_up_proj and down_proj, but up_proj"):
        read_experts(Experts(nn.SiLU(), "up_proj"))


def test_parameters_that_are_computed_when_they_are_read_are_refused() -> None:
    """A layer made of them would keep what they were."""
    experts = Experts(nn.SiLU(), *GATED)
    parametrize.register_parametrization(experts, "down_proj", nn.Tanh())
    with pytest.raises(ValueError, match=r"Experts computes down_proj when it is read.*: merge its adapters first"):
        read_experts(experts)
