"""Presets agree with transformers' configurations, published totals and the problem's rules."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, get_args

import pytest

from moebench.common.names import UnknownName
from moebench.kernels.problem import InvalidProblem
from moebench.kernels.problem.configs.model_config import model_of_config
from moebench.kernels.problem.models import MODELS, Layout, Model, model
from moebench.kernels.problem.router import Router
from moebench.kernels.problem.topk_rule import TopkRouter

NAMES = [preset.name for preset in MODELS]

# Configuration classes whose defaults are the released model's, with the fields for which this holds. Left out are
# those with other defaults: Qwen3MoeConfig's layers and renormalisation, OlmoeConfig's and DeepseekV2Config's expert
# width, SwitchTransformersConfig's width (switch-base-8), and all of DbrxConfig, GraniteMoeConfig and MiniMaxConfig.
SHAPE = {"D": "hidden_size", "E": "num_experts", "K": "num_experts_per_tok", "activation": "hidden_act"}
LOCAL = SHAPE | {"E": "num_local_experts", "F": "intermediate_size", "layers": "num_hidden_layers"}
LOCAL_SHAPE = {field: name for field, name in LOCAL.items() if field != "activation"}  # its name says silu
FINE = SHAPE | {"F": "moe_intermediate_size"}
DEEPSEEK = FINE | {
    "E": "n_routed_experts",
    "layers": "num_hidden_layers - first_k_dense_replace",
    "renormalised": "norm_topk_prob",
}
DEFAULTS = [
    ("Mixtral-8x7B", "MixtralConfig", LOCAL),
    ("Phi-3.5-MoE", "PhimoeConfig", LOCAL),
    ("gpt-oss-120b", "GptOssConfig", LOCAL_SHAPE),
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

READ = {
    "A.X-K1": "AXK1Config",
    "Beam-1.0-501B-A23B": "BeamConfig",
    "DeepSeek-V3": "DeepseekV3Config",
    "DeepSeek-V4-Flash": "DeepseekV4Config",
    "dots3-note": "Dots3NoteConfig",
    "ERNIE-4.5-21B-A3B": "Ernie4_5_MoeConfig",
    "FlexOlmo-7x7B": "FlexOlmoConfig",
    "Flint": "FlintConfig",
    "GLM-4.5-Air": "Glm4MoeConfig",
    "GLM-4.7-Flash": "Glm4MoeLiteConfig",
    "GLM-5": "GlmMoeDsaConfig",
    "GLM-5.3-Flash": "Glm5NextConfig",
    "gpt-oss-120b": "GptOssConfig",
    "Hy3": "HYV3Config",
    "Inkling-2-Small": "Inkling2Config",
    "Jamba-Mini": "JambaConfig",
    "Kimi-Linear-48B-A3B": "KimiLinearConfig",
    "Kolibri-1": "Kolibri1Config",
    "Laguna-XS": "LagunaConfig",
    "Ling-3.0-flash": "BailingHybridConfig",
    "Llama-4-Scout": "Llama4Config",
    "LongCat-Flash": "LongcatFlashConfig",
    "Mellum2-12B-A2.5B": "MellumConfig",
    "MiMo-V2-Flash": "MiMoV2FlashConfig",
    "MiniMax-M2": "MiniMaxM2Config",
    "Mistral-Large-4": "MistralLarge4Config",
    "Mistral-Small-4": "Mistral4Config",
    "Mixtral-8x7B": "MixtralConfig",
    "Muse-Spark-816B": "MuseSparkConfig",
    "Qwen3-Next-80B-A3B": "Qwen3NextConfig",
    "Qwen3.5-35B-A3B": "Qwen3_5MoeConfig",
    "Solar-Open-100B": "SolarOpenConfig",
    "Step-3.5-Flash": "Step3p7Config",
    "ZAYA1-8B": "ZayaConfig",
}

RELEASED_WITH_ANOTHER = {("Laguna-XS", "router"), ("Step-3.5-Flash", "router")}
"""Their factors on gate weights are 1 in the configuration classes."""

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
    "DeepSeek-V4-Flash": 284,
    "DeepSeek-V4-Pro": 1600,
    "DeepSeek-V4.1-Flash": 552,
    "Kimi-K3": 2780,
    "Kimi-Linear-48B-A3B": 48,
    "GLM-4.7-Flash": 30,
    "GLM-5": 744,
    "Qwen3.5-35B-A3B": 35,
    "Qwen3.5-122B-A10B": 122,
    "Qwen3.5-397B-A17B": 397,
    "Qwen3.8-2.4T-A95B": 2420,
    "Qwen3.8-Flash-Next": 125,
    "MiniMax-M2": 230,
    "MiniMax-M3": 428,
    "Mistral-Large-3": 675,
    "Mistral-Small-4": 119,
    "Muse-Spark-816B": 816,
    "Ling-mini-2.0": 16.3,
    "Ling-flash-2.0": 104,
    "Ling-1T": 1000,
    "Ling-3.0-flash": 124.4,
    "Step-3": 321,
    "Step-3.5-Flash": 196,
    "Nemotron-3-Nano": 31.6,
    "Nemotron-3-Super": 120,
    "Nemotron-3-Ultra": 550,
    "Hunyuan-A13B": 80,
    "Hy3": 295,
    "Hy4-preview": 770,
    "ERNIE-4.5-21B-A3B": 21,
    "ERNIE-4.5-300B-A47B": 300,
    "dots.llm1": 142,
    "dots3-note": 288,
    "LongCat-Flash": 560,
    "Trinity-Nano": 6,
    "Trinity-Mini": 26,
    "Trinity-Large": 398,
    "FlexOlmo-7x7B": 33,
    "Granite-4.0-H-Small": 32,
    "Granite-4.0-H-Tiny": 7,
    "Gemma-4-26B": 26,
    "Phi-mini-MoE": 7.65,
    "Phi-tiny-MoE": 3.8,
    "Jamba-Mini": 52,
    "Jamba-Large": 398,
    "MiMo-V2-Flash": 309,
    "MiMo-V2.5-Pro": 1020,
    "Solar-Open-100B": 102,
    "K-EXAONE-236B-A23B": 236,
    "A.X-K1": 519,
    "Inkling": 975,
    "Inkling-Small": 276,
    "Beam-1.0-501B-A23B": 501,
    "Laguna-XS": 33,
    "North-Mini-Code": 30,
    "LFM2-8B-A1B": 8.3,
    "Mellum2-12B-A2.5B": 12,
    "ZAYA1-8B": 8.3,
}

ROUNDED_DOWN = {"ERNIE-4.5-21B-A3B": 22}
WITH_LARGE_EMBEDDINGS = {"Granite-4.0-H-Small": 0.84, "Phi-mini-MoE": 0.75, "Phi-tiny-MoE": 0.7}
# Switch-Base-64 is checked against Switch-Base-128. Of the others no total is published, or none without other tables;
# the experts of Mistral-Large-4 alone would be 3 % more than its rounded total.
WITHOUT_A_TOTAL = {
    "Switch-Base-64",
    "GLM-5.3-Flash",
    "Mistral-Large-4",
    "LongCat-Flash-Lite",
    "Inkling-2-Small",
    "Kolibri-1",
    "Flint",
}


def fact(preset: Model, name: str) -> object:
    if name != "renormalised":
        return getattr(preset, name)
    router = Router.parse(preset.router)
    assert isinstance(router, TopkRouter)
    return router.rule.renormalise


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
    assert WITH_LARGE_EMBEDDINGS.get(name, 0.85) < model(name).expert_parameters / 1e9 / billions < 1


@pytest.mark.parametrize(("name", "billions"), TOTALS.items(), ids=list(TOTALS))
def test_a_block_adds_parameters_within_the_published_total(name: str, billions: float) -> None:
    preset = model(name)
    assert (preset.parameters > preset.expert_parameters) is bool(preset.block or preset.bias)
    assert preset.parameters / 1e9 < ROUNDED_DOWN.get(name, billions)


@pytest.mark.parametrize(
    ("name", "added"),
    [
        ("Qwen2-57B-A14B", 28 * (3 * 3584 * 20480 + 3584)),
        ("DeepSeek-V2", 59 * 3 * 5120 * 2 * 1536),
        ("Kimi-K3", 92 * (2 * 7168 * 3584 + 3 * 7168 * 6144)),
        ("Nemotron-3-Ultra", 48 * (2 * 8192 * 2048 + 2 * 8192 * 10240)),
        ("Inkling", 0),
    ],
)
def test_the_block_of_a_model_has_its_matrices(name: str, added: int) -> None:
    assert model(name).parameters - model(name).expert_parameters == added


@pytest.mark.parametrize("preset", MODELS, ids=NAMES)
def test_a_block_is_canonical_and_stands_around_the_experts_of_the_preset(preset: Model) -> None:
    whole = preset.whole(T=64, dtype="bfloat16", bias=False)
    assert whole.block == preset.block
    assert whole.core == preset.problem(T=64, dtype="bfloat16", bias=False)
    assert not preset.block.startswith(
        f"shared:width={preset.F}"
    )  # a width of 0 is that of an expert: equal blocks have one text
    assert preset.note_alone.endswith(preset.note)
    assert preset.note_alone.startswith(f"without its {preset.block}" if preset.block else preset.note)
    small = whole.scaled(512)
    assert small.weight_bytes / small.D**2 == pytest.approx(whole.weight_bytes / whole.D**2, rel=1e-3)


def test_no_note_leaves_out_what_a_block_has() -> None:
    assert [preset.name for preset in MODELS if "without its" in preset.note and "shared" in preset.note] == []
    assert [preset.name for preset in MODELS if (preset.model_width is None) == ("latent" in preset.block)] == []


def test_half_the_experts_are_half_the_parameters_of_switch_base() -> None:
    assert 2 * model("Switch-Base-64").expert_parameters == model("Switch-Base-128").expert_parameters


def test_every_preset_is_checked_against_a_published_total() -> None:
    assert set(NAMES) - set(TOTALS) == WITHOUT_A_TOTAL


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


def test_presets_equal_what_the_reader_finds_in_the_defaults_of_transformers(tmp_path: Path) -> None:
    """These configuration classes have the released model's values as defaults."""
    transformers = pytest.importorskip("transformers", reason="needs the extra 'peers' to compare with transformers")
    for name, class_name in READ.items():
        if not hasattr(transformers, class_name):
            continue  # an older version of transformers
        path = tmp_path / "config.json"
        path.write_text(json.dumps(getattr(transformers, class_name)().to_dict()))
        found, preset = model_of_config(path), model(name)
        for field in ("D", "F", "E", "K", "layers", "activation", "gated", "bias", "router", "block", "model_width"):
            if (name, field) not in RELEASED_WITH_ANOTHER:
                assert getattr(found, field) == getattr(preset, field), (name, field)


def test_notes_say_that_learned_biases_are_zero_where_the_router_has_them() -> None:
    biased = {preset.name for preset in MODELS if "selection biases" in preset.note}
    unbiased = {"North-Mini-Code", "Flint", "Llama-4-Scout", "Llama-4-Maverick"}
    other = {"LongCat-Flash", "LongCat-Flash-Lite", "ZAYA1-8B", "ERNIE-4.5-21B-A3B", "ERNIE-4.5-300B-A47B"}
    assert (
        biased - other
        == {preset.name for preset in MODELS if "sigmoid" in preset.router or "sqrt" in preset.router} - unbiased
    )
    assert other <= biased
    assert not any("nearest" in preset.note or "run as" in preset.note for preset in MODELS)


def test_a_latent_width_and_the_layout_of_a_checkpoint_are_told() -> None:
    assert (model("Kimi-K3").D, model("Kimi-K3").model_width) == (3584, 7168)
    assert model("gpt-oss-20b").layout == "interleaved and transposed"
    assert {preset.layout for preset in MODELS} == {None, *get_args(Layout)}
    assert all(preset.model_width is None or preset.model_width > preset.D for preset in MODELS)
    assert [preset.name for preset in MODELS if preset.bias] == ["gpt-oss-20b", "gpt-oss-120b"]
