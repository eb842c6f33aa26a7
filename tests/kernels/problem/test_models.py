"""Presets agree with transformers' configurations, published totals and the problem's rules."""

from __future__ import annotations

from typing import Any

import pytest

from moebench.common.names import UnknownName
from moebench.kernels.problem import InvalidProblem
from moebench.kernels.problem.models import MODELS, Model, model

NAMES = [preset.name for preset in MODELS]

# Configuration classes whose defaults are the released model's, with the fields for which this holds. Left out are
# those with other defaults: Qwen3MoeConfig's layers and renormalisation, OlmoeConfig's and DeepseekV2Config's expert
# width, SwitchTransformersConfig's width (switch-base-8), and all of DbrxConfig, GraniteMoeConfig and MiniMaxConfig.
SHAPE = {"D": "hidden_size", "E": "num_experts", "K": "num_experts_per_tok", "activation": "hidden_act"}
LOCAL = SHAPE | {"E": "num_local_experts", "F": "intermediate_size", "layers": "num_hidden_layers"}
FINE = SHAPE | {"F": "moe_intermediate_size"}
DEEPSEEK = FINE | {
    "E": "n_routed_experts",
    "layers": "num_hidden_layers - first_k_dense_replace",
    "renormalised": "norm_topk_prob",
}
DEFAULTS = [
    ("Mixtral-8x7B", "MixtralConfig", LOCAL),
    ("Phi-3.5-MoE", "PhimoeConfig", LOCAL),
    ("gpt-oss-120b", "GptOssConfig", LOCAL),
    ("Llama-4-Scout", "Llama4TextConfig", LOCAL),
    ("Qwen1.5-MoE-A2.7B", "Qwen2MoeConfig", FINE | {"layers": "num_hidden_layers", "renormalised": "norm_topk_prob"}),
    ("Qwen3-30B-A3B", "Qwen3MoeConfig", FINE),
    ("Qwen3-Next-80B-A3B", "Qwen3NextConfig", FINE | {"layers": "num_hidden_layers", "renormalised": "norm_topk_prob"}),
    ("DeepSeek-V2-Lite", "DeepseekV2Config", {"E": "n_routed_experts", "renormalised": "norm_topk_prob"}),
    ("DeepSeek-V3", "DeepseekV3Config", DEEPSEEK),
    ("GLM-4.5-Air", "Glm4MoeConfig", DEEPSEEK),
    ("OLMoE-1B-7B", "OlmoeConfig", SHAPE | {"layers": "num_hidden_layers", "renormalised": "norm_topk_prob"}),
    ("Switch-Base-128", "SwitchTransformersConfig", {"D": "d_model", "activation": "dense_act_fn"}),
]

# Parameters of the routed experts in billions, computed from the shapes.
EXPERTS = {
    "Mixtral-8x7B": 45.1,
    "DBRX": 126.8,
    "DeepSeek-V2": 222.7,
    "DeepSeek-V3": 653.9,
    "Kimi-K2": 1015,
    "Qwen3-30B-A3B": 29.0,
    "Qwen3-235B-A22B": 227,
    "Qwen3-Next-80B-A3B": 77.3,
    "gpt-oss-20b": 19.1,
    "gpt-oss-120b": 114.7,
    "Llama-4-Maverick": 386.5,
    "Llama-4-Scout": 96.6,
    "MiniMax-Text-01": 435,
    "GLaM-64B-64E": 1100,
    "Switch-C-2048": 1570,
}

# Parameters of the whole model in billions, from its name, card or paper.
TOTALS = {
    "Mixtral-8x7B": 46.7,
    "Mixtral-8x22B": 141,
    "DBRX": 132,
    "DeepSeek-V2-Lite": 15.7,
    "DeepSeek-V2": 236,
    "DeepSeek-V3": 671,
    "Kimi-K2": 1040,
    "Qwen1.5-MoE-A2.7B": 14.3,
    "Qwen2-57B-A14B": 57.4,
    "Qwen3-30B-A3B": 30.5,
    "Qwen3-235B-A22B": 235,
    "Qwen3-Coder-480B": 480,
    "Qwen3-Next-80B-A3B": 80,
    "OLMoE-1B-7B": 6.9,
    "gpt-oss-20b": 20.9,
    "gpt-oss-120b": 116.8,
    "Phi-3.5-MoE": 41.9,
    "Granite-3-1B-A400M": 1.3,
    "Granite-3-3B-A800M": 3.3,
    "Switch-Base-128": 7.4,
    "Switch-C-2048": 1571,
    "GLaM-64B-64E": 1200,
    "MiniMax-Text-01": 456,
    "GLM-4.5": 355,
    "GLM-4.5-Air": 106,
    "Llama-4-Scout": 109,
    "Llama-4-Maverick": 400,
}


def fact(preset: Model, name: str) -> object:
    return preset.router == "softmax_topk_renorm" if name == "renormalised" else getattr(preset, name)


def default(config: Any, difference: str) -> object:
    first, *rest = (getattr(config, attribute) for attribute in difference.split(" - "))
    return first - sum(rest) if rest else first


@pytest.mark.parametrize(("name", "config_class", "fields"), DEFAULTS, ids=[row[0] for row in DEFAULTS])
def test_preset_equals_the_defaults_of_transformers(name: str, config_class: str, fields: dict[str, str]) -> None:
    transformers = pytest.importorskip("transformers", reason="needs the extra 'peers' to compare with transformers")
    config = getattr(transformers, config_class)()
    preset = model(name)
    assert {field: fact(preset, field) for field in fields} == {
        field: default(config, difference) for field, difference in fields.items()
    }


@pytest.mark.parametrize(("name", "billions"), EXPERTS.items(), ids=list(EXPERTS))
def test_expert_parameters_are_the_known_ones(name: str, billions: float) -> None:
    assert model(name).expert_parameters / 1e9 == pytest.approx(billions, rel=2e-3)


@pytest.mark.parametrize(("name", "billions"), TOTALS.items(), ids=list(TOTALS))
def test_experts_are_most_of_the_published_total_and_never_more(name: str, billions: float) -> None:
    assert 0.85 < model(name).expert_parameters / 1e9 / billions < 1


def test_half_the_experts_are_half_the_parameters_of_switch_base() -> None:
    assert 2 * model("Switch-Base-64").expert_parameters == model("Switch-Base-128").expert_parameters


def test_every_preset_is_checked_against_a_published_total() -> None:
    assert set(NAMES) - set(TOTALS) == {"Switch-Base-64"}


@pytest.mark.parametrize("preset", MODELS, ids=NAMES)
def test_preset_is_a_problem_that_scales_down_exactly(preset: Model) -> None:
    problem = preset.problem(T=64)
    assert (problem.D, problem.F, problem.E, problem.K) == (preset.D, preset.F, preset.E, preset.K)
    assert (problem.gated, problem.activation, problem.router) == (preset.gated, preset.activation, preset.router)
    small = problem.scaled(512)
    assert (small.E, small.K) == (preset.E, preset.K)
    assert small.F * preset.D == small.D * preset.F
    assert 256 < small.D <= 512


def test_fields_of_the_problem_can_be_set_and_are_checked() -> None:
    problem = model("DBRX").problem(T=8, dtype="bfloat16", mode="train", K=2)
    assert (problem.T, problem.dtype, problem.mode, problem.K) == (8, "bfloat16", "train", 2)
    with pytest.raises(InvalidProblem, match="dtype = 'int8'"):
        model("DBRX").problem(T=8, dtype="int8")


def test_names_are_unique_in_any_case_and_every_preset_names_its_source() -> None:
    assert len({name.casefold() for name in NAMES}) == len(NAMES)
    assert all(preset.source for preset in MODELS)


@pytest.mark.parametrize("preset", MODELS, ids=NAMES)
def test_preset_is_found_in_any_case_and_suggested_for_a_misspelt_name(preset: Model) -> None:
    assert model(preset.name.lower()) is model(preset.name.upper()) is preset
    misspelt = preset.name.replace("-", "", 1).upper() + "x"
    with pytest.raises(UnknownName, match="no model is named") as caught:
        model(misspelt)
    assert preset.name in str(caught.value).partition("did you mean")[2]
