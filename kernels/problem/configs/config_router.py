"""The router of a model by the fields of its ``config.json``, as the code of its family computes it.

Families are values of ``model_type``: those of transformers 5, whose modules were read, and of other released files.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

Fields = Mapping[str, Any]

# The first spelling that is present and not null counts.
SCORES = (
    *("scoring_func", "score_function", "score_func", "moe_router_activation_func", "moe_router_activation"),
    "expert_selection_fn",
)
RENORMALISED = (
    *("norm_topk_prob", "moe_renormalize", "norm_expert_weight", "moe_normalize_expert_weights", "route_norm"),
)
SCALES = (
    *("routed_scaling_factor", "moe_router_scaling_factor", "router_scaling_factor", "moe_routed_scaling_factor"),
    "route_scale",
)
GROUPS = ("n_group", "num_expert_group")
TOP_GROUPS = ("topk_group",)
BIAS_FLAGS = ("use_routing_bias", "use_expert_bias", "moe_router_enable_expert_bias", "use_moe_router_bias")
OTHERS = ("topk_method", "use_grouped_topk", "zero_expert_num", "zero_expert_type", "second_expert_policy")
IN_THE_LOGITS = ("router_bias", "output_multiplier", "router_hidden_size")
READ = {*SCORES, *RENORMALISED, *SCALES, *GROUPS, *TOP_GROUPS, *BIAS_FLAGS, *OTHERS, *IN_THE_LOGITS}
"""Fields that are read here, or say how the logits are made, which a load gives."""

# What the files of these families leave to the model's code.
WITHOUT_OPTIONS = {
    **dict.fromkeys(("aria_text", "gpt_oss", "jetmoe", "openai_privacy_filter"), "topk_softmax"),
    **dict.fromkeys(("granitemoe", "granitemoe_swa", "granitemoehybrid", "granitemoeshared"), "topk_softmax"),
    "switch_transformers": "switch",
}
TOPK_SIGMOID = {"cohere2_moe", "kolibri1", "llama4_text"}
SIGMOID = {
    *("afmoe", "axk1", "axk2", "bailing_hybrid", "beam", "deepseek_v3", "deepseek_v32", "dots1", "dots3_note_text"),
    *("dots3_note_vision_encoder", "exaone_moe", "flint", "glm4_moe", "glm4_moe_lite", "glm4v_moe_text"),
    *("glm5_next_text", "glm_moe_dsa", "hy_v3", "hy_v4", "inkling_text", "inkling2_text", "kimi_k2", "kimi_linear"),
    *("laguna", "lfm2_moe", "mimo_v2_flash", "minimax_m2", "minimax_m3", "minimax_m3_vl_text", "muse_spark_text"),
    *("nemotron_h", "solar_open", "step3p5"),
}
SOFTMAX = {
    *("dbrx", "deepseek_ocr2_text", "deepseek_v2", "diffusion_gemma_text", "ernie4_5_moe", "ernie4_5_vl_moe_text"),
    *("flex_olmo", "gemma4_text", "hunyuan", "hunyuan_v1_moe", "jamba", "longcat_flash", "mellum", "minimax"),
    *("minimax_text_01", "mistral4", "mistral_large4_text", "mixtral", "nllb-moe", "olmoe", "qwen2_moe", "qwen3_moe"),
    *("qwen3_5_moe_text", "qwen3_next", "qwen3_omni_moe_talker_text", "qwen3_omni_moe_text", "qwen3_vl_moe_text"),
    *("qwen4_exp_text", "unlimited_ocr_text", "zaya"),
}
NOT_RENORMALISED = {
    *("deepseek_ocr2_text", "deepseek_v2", "jamba", "llama4_text", "longcat_flash", "step3_text", "step3_vl"),
    *("unlimited_ocr_text", "zaya"),
}
BIASED_SOFTMAX = {"ernie4_5_moe", "ernie4_5_vl_moe_text", "longcat_flash", "zaya"}
UNBIASED = {"cohere2_moe", "flint", "llama4_text"}
TWO_RANK_A_GROUP = {"mistral4", "mistral_large4_text"}


def router_of(fields: Fields, family: str) -> str:
    """Return the text of a model's router.

    Raises:
        ValueError: naming the field, its value and the remedy.
    """
    score = _score(fields, family)
    own = "topk_softmax" if family == "cohere2_moe" and score != "sigmoid" else WITHOUT_OPTIONS.get(family)
    if own:
        return own
    if family == "phimoe":
        return _text("sparsemixer", jitter=_number(fields, ("router_jitter_noise",), 0.01, most=1))
    renormalise = bool(_first(fields, RENORMALISED, family not in NOT_RENORMALISED))
    if family in TOPK_SIGMOID:
        return _text("topk_sigmoid", renormalise=renormalise)
    scale = _number(fields, SCALES, 1, least=1e-3, most=1e3)
    if score == "sqrtsoftplus":
        return _text("sqrt_softplus_topk", scale=scale)
    options = _groups(fields) | {"scale": scale}
    if score == "sigmoid":
        if family == "inkling_text":
            options["shared_experts"] = _number(fields, ("n_shared_experts",), 0)
        return _text("sigmoid_topk", **options, renormalise=renormalise)
    if "groups" in options and family in TWO_RANK_A_GROUP:
        options["group_best"] = 2
    options["zero_experts"] = 1 if family == "zaya" else _number(fields, ("zero_expert_num",), 0)
    return _text("softmax_topk_renorm" if renormalise else "softmax_topk", **options)


def router_notes(fields: Fields, family: str) -> Iterator[str]:
    """Yield what a model's router is or has that its text does not say."""
    score = _score(fields, family)
    if not score and family not in {*SOFTMAX, *WITHOUT_OPTIONS, "phimoe"}:
        yield "unverified: its router"
    biased = score in {"sigmoid", "sqrtsoftplus"} or family in BIASED_SOFTMAX
    if biased and family not in UNBIASED and _first(fields, BIAS_FLAGS, default=True):
        skipping = "; before training that of skipping was -1" if family == "zaya" else ", as before training"
        yield f"its selection biases are zero{skipping}"
    if family == "gemma4_text":
        yield "its learned scales of experts are 1, as before training"
    if family == "llama4_text":
        yield "its gate weights are on the outputs of experts, not on their inputs"
    if (policy := fields.get("second_expert_policy", "all")) != "all":
        yield f"its second_expert_policy = {policy} is run as all"
    kinds = fields.get("mlp_layer_types")
    if isinstance(kinds, list) and (hashed := kinds.count("hash_moe")):
        yield f"{hashed} layers choose experts by token id"


def _score(fields: Fields, family: str) -> str:
    """Return the word for how scores are made of logits, empty for a softmax that no field names."""
    return str(_first(fields, SCORES, "sigmoid" if family in {*SIGMOID, "kolibri1", "llama4_text"} else ""))


def _groups(fields: Fields) -> dict[str, float]:
    """Return the number of groups of experts and of those that a token chooses within, where that limits it."""
    groups, top_groups = (_number(fields, names, 1) for names in (GROUPS, TOP_GROUPS))
    if fields.get("topk_method") == "greedy" or top_groups == groups:
        return {}
    return {"groups": groups, "top_groups": top_groups}


def _first(fields: Fields, names: tuple[str, ...], default: Any) -> Any:
    return next((fields[name] for name in names if fields.get(name) is not None), default)


def _number(fields: Fields, names: tuple[str, ...], default: float, *, least: float = 0, most: float = 4096) -> float:
    for name in names:
        if (value := fields.get(name)) is not None:
            if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
                raise ValueError(f"{name} = {value!r}: give a number from {least:g} to {most:g}")
            return value
    return default


def _text(name: str, **options: object) -> str:
    return f"{name}:{','.join(f'{key}={str(value).lower()}' for key, value in options.items())}"
