"""Tiny models of every family of transformers that has routed experts, with random weights."""

from __future__ import annotations

import dataclasses
import importlib.util
import re
from pathlib import Path
from typing import Any

import torch

from moebench.integrations.transformers.taken_experts import EXPERTS

SIZES: dict[str, Any] = {
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 48,
    "moe_intermediate_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "head_dim": 8,
    "max_position_embeddings": 128,
    "sliding_window": 8,
    "tie_word_embeddings": False,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": None,  # a random model would end at once
    **dict.fromkeys(("num_local_experts", "num_experts", "n_routed_experts", "moe_num_experts"), 4),
    **dict.fromkeys(("num_experts_per_tok", "moe_top_k", "moe_k", "moe_topk", "top_k_experts"), 2),
    **dict.fromkeys(("n_group", "topk_group", "n_shared_experts", "decoder_sparse_step"), 1),
    **dict.fromkeys(("first_k_dense_replace", "num_dense_layers", "moe_layer_start_index"), 0),
    **dict.fromkeys(
        ("moe_shared_expert_intermediate_size", "shared_expert_intermediate_size", "shared_intermediate_size"), 16
    ),
    # attention by latent vectors, by an index, and linear
    **dict.fromkeys(("q_lora_rank", "kv_lora_rank"), 16),
    **dict.fromkeys(("qk_rope_head_dim", "qk_nope_head_dim", "v_head_dim", "index_head_dim", "index_topk"), 8),
    **dict.fromkeys(("index_n_heads", "index_num_heads", "linear_num_key_heads", "linear_num_value_heads"), 2),
    **dict.fromkeys(("linear_key_head_dim", "linear_value_head_dim", "linear_head_dim", "mamba_d_state"), 8),
    "mamba_expand": 2,
    "mamba_n_heads": 4,
    "mamba_d_head": 16,
    # images
    "depth": 1,
    "num_heads": 2,
    "out_hidden_size": 32,
    "patch_size": 4,
    "image_size": 16,
}
"""Sizes by the name of a field; a configuration takes those that it has."""

BOTH = {"layer_types": ["linear_attention", "full_attention"]}
SPARSE = {"mlp_layer_types": ["sparse", "sparse"]}
POSITIONS = {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [1, 1, 2], "partial_rotary_factor": 1.0}
OTHERWISE: dict[str, dict[str, Any]] = {
    "bailing_hybrid": {"num_hidden_layers": 4, "layer_group_size": 2},
    "beam": SPARSE,
    "dbrx": {
        "d_model": 32,
        "n_heads": 4,
        "n_layers": 2,
        "max_seq_len": 64,
        "ffn_config": {"ffn_hidden_size": 16, "moe_num_experts": 4, "moe_top_k": 2},
        "attn_config": {"kv_n_heads": 2, "rope_theta": 1e4, "clip_qkv": 8.0},
    },
    "deepseek_ocr2": {"text_config": SPARSE},
    "diffusion_gemma": {
        "canvas_length": 20,
        "text_config": {"global_head_dim": 8, "num_global_key_value_heads": 4},
    },
    "doge": {"is_moe": True},
    "ernie4_5_vl_moe": {"text_config": {"moe_intermediate_size": [16, 16], "rope_parameters": POSITIONS}},
    "flint": {"mlp_only_layers": []},
    "gemma4": {
        "enable_moe_block": True,
        "global_head_dim": 8,
        "num_global_key_value_heads": 2,
        "hidden_size_per_layer_input": 8,
        "vocab_size_per_layer_input": 64,
    },
    "glm4v_moe": {"text_config": {"rope_parameters": POSITIONS}},
    "glm5_next": {"text_config": {**BOTH, **SPARSE, "index_topk": 16, "qk_rope_head_dim": 0}},
    "granitemoehybrid": BOTH,
    "jamba": {"attn_layer_period": 2, "attn_layer_offset": 1, "expert_layer_period": 1, "expert_layer_offset": 0},
    "kimi_linear": {**BOTH, **SPARSE, "linear_num_heads": 2},
    "lfm2_moe": {"layer_types": ["conv", "full_attention"]},
    "longcat_flash": {"num_layers": 2, "ffn_hidden_size": 32, "expert_ffn_hidden_size": 16, "zero_expert_num": 1},
    "mimo_v2_flash": {"num_key_value_heads": 2},
    "mistral4": {"qk_head_dim": 16},
    "muse_spark": {
        "audio_config": {"num_hidden_layers": 1, "patch_sizes": [4], "hidden_sizes": [32], "depths": [1]},
        "text_config": {"moe_hidden_size": 16},
    },
    "nemotron_h": {"mamba_num_heads": 4, "mamba_head_dim": 8, "ssm_state_size": 8, "n_groups": 1},
    "nllb_moe": {
        "d_model": 32,
        "encoder_layers": 2,
        "decoder_layers": 2,
        "encoder_ffn_dim": 16,
        "decoder_ffn_dim": 16,
        "encoder_attention_heads": 2,
        "decoder_attention_heads": 2,
        "encoder_sparse_step": 1,
        "decoder_sparse_step": 1,
    },
    "qwen3_5_moe": BOTH,
    "qwen3_next": BOTH,
    "qwen3_omni_moe": {
        "vision_start_token_id": 5,
        "audio_config": {
            "d_model": 32,
            "encoder_layers": 1,
            "encoder_attention_heads": 2,
            "encoder_ffn_dim": 32,
            "downsample_hidden_size": 8,
            "output_dim": 32,
            "num_mel_bins": 16,
        },
    },
    "qwen4_exp": {
        **BOTH,
        "indexer_n_heads": 2,
        "indexer_kv_heads": 1,
        "indexer_head_dim": 8,
        "indexer_budget": 8,
        "indexer_compress_ratio": 2,
    },
    "step3p7": {"text_config": SPARSE},
    "switch_transformers": {
        "d_model": 32,
        "d_kv": 8,
        "d_ff": 16,
        "num_layers": 2,
        "num_decoder_layers": 2,
        "num_sparse_encoder_layers": 1,
        "num_sparse_decoder_layers": 1,
    },
    "vitpose_backbone": {"num_experts": 2, "part_features": 8},
    "zaya": {"num_experts_per_tok": 1},
}
"""Settings of families that need other ones, by the name of the folder of transformers."""

CLASSES = {"qwen3_omni_moe": "Qwen3OmniMoeThinkerForConditionalGeneration", "vitpose_backbone": "VitPoseBackbone"}
TASKS = ("CausalLM", "ConditionalGeneration", "BlockDiffusion", "TokenClassification")


def routed_experts() -> dict[str, set[str]]:
    """Return the classes of routed experts in the installed transformers by the folder that defines them."""
    spec = importlib.util.find_spec("transformers")
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError("transformers is not installed", name="transformers")
    found: dict[str, set[str]] = {}
    for source in sorted((Path(spec.origin).parent / "models").glob("*/modeling_*.py")):
        names = re.findall(r"^class (\w+)\(", source.read_text(), re.MULTILINE)
        if kinds := {name for name in names if EXPERTS.search(name)}:
            found[source.parent.name] = kinds
    return found


def model_class(family: str) -> Any:
    """Return the class of a family that has a head, the one that generates text where it has several."""
    modeling = importlib.import_module(f"transformers.models.{family}.modeling_{family}")
    if family in CLASSES:
        return getattr(modeling, CLASSES[family])
    own = [name for name, found in vars(modeling).items() if getattr(found, "__module__", "") == modeling.__name__]
    heads = (name for task in TASKS for name in own if name.endswith(f"For{task}"))
    return getattr(modeling, next(heads))


def tiny_config(family: str) -> Any:
    """Return a small configuration of a family."""
    return _configuration(model_class(family).config_class, OTHERWISE.get(family, {}))


def tiny_model(family: str, *, dtype: torch.dtype = torch.float32, **options: Any) -> Any:
    """Return a model whose weights are random and large enough for its experts to matter; options go to from_config."""
    model = model_class(family)._from_config(tiny_config(family), dtype=dtype, **options).eval()  # noqa: SLF001  # of any class
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                drawn = torch.randn(parameter.shape, generator=generator)
                parameter.copy_(drawn * parameter.shape[-1] ** -0.5)
    return model


def _configuration(kind: Any, settings: dict[str, Any]) -> Any:
    default, fields = kind(), {field.name for field in dataclasses.fields(kind)}
    parts = {name: getattr(default, name, None) for name in getattr(kind, "sub_configs", {})}
    small = {name: size for name, size in SIZES.items() if name in fields}
    made = {
        name: _configuration(type(part), settings.get(name, {})) for name, part in parts.items() if part is not None
    }
    return kind(**{**small, **settings, **made})
