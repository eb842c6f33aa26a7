"""Experts modules of transformers are read without a copy, and refused where no kernel computes what they do."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from moebench.kernels.module.hugging_face import read_experts

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


@pytest.mark.parametrize("act", [nn.Mish(), nn.LeakyReLU(), nn.ReLU6(), nn.Identity()], ids=str)
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
