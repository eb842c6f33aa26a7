"""Tiny models with random weights of every Mixture-of-Experts family of the installed transformers."""

from __future__ import annotations

import importlib
import inspect
import re
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

SMALL: dict[str, Any] = {
    "hidden_size": 32, "d_model": 32, "intermediate_size": 32, "d_ff": 32, "ffn_hidden_size": 32,
    "encoder_ffn_dim": 32, "decoder_ffn_dim": 32, "moe_intermediate_size": 16, "expert_ffn_hidden_size": 16,
    "num_hidden_layers": 2, "num_layers": 2, "num_decoder_layers": 2, "encoder_layers": 2, "decoder_layers": 2,
    "num_attention_heads": 2, "num_key_value_heads": 2, "num_heads": 2, "encoder_attention_heads": 2,
    "decoder_attention_heads": 2, "num_global_key_value_heads": 2, "head_dim": 16, "global_head_dim": 16, "d_kv": 16,
    "kv_lora_rank": 16, "q_lora_rank": 16, "v_head_dim": 16, "qk_nope_head_dim": 16, "qk_rope_head_dim": 16,
    "qk_head_dim": 32, "index_head_dim": 16, "index_n_heads": 2, "index_topk": 16,
    "linear_num_key_heads": 2, "linear_num_value_heads": 2, "linear_key_head_dim": 16, "linear_value_head_dim": 16,
    "mamba_n_heads": 4, "mamba_expand": 2, "mamba_d_head": 16, "mamba_n_groups": 1, "mamba_d_state": 8,
    "vocab_size": 64, "vocab_size_per_layer_input": 64, "hidden_size_per_layer_input": 8, "pad_token_id": 0,
    "num_local_experts": 8, "num_experts": 8, "n_routed_experts": 8, "moe_num_experts": 8, "zero_expert_num": 4,
    "num_experts_per_tok": 2, "moe_k": 2, "top_k_experts": 2, "n_group": 1, "topk_group": 1,
    "n_shared_experts": 1, "num_dense_layers": 0, "first_k_dense_replace": 0, "mlp_only_layers": [],
    "decoder_sparse_step": 1, "encoder_sparse_step": 1, "enable_moe_block": True,
}  # fmt: skip
"""Values of those fields that a configuration has."""
OWN: dict[str, dict[str, Any]] = {
    "beam": {"mlp_layer_types": ["dense", "sparse"]},
    "dbrx": {
        "attn_config": {"kv_n_heads": 2, "rope_theta": 10000.0, "clip_qkv": 8.0},
        "ffn_config": {"ffn_hidden_size": 32, "moe_num_experts": 8, "moe_top_k": 2},
    },
    "deepseek_ocr2": {"mlp_layer_types": ["dense", "sparse"]},
    "ernie4_5_vl_moe": {
        "moe_intermediate_size": [16, 16],
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 2, 4]},
    },
    "glm4v_moe": {"rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [1, 1, 2]}},
    "glm5_next": {"mlp_layer_types": ["sparse", "sparse"], "qk_rope_head_dim": 0, "qk_head_dim": 16},
    "lfm2_moe": {"layer_types": ["full_attention", "full_attention"]},
    "mimo_v2_flash": {"head_dim": 24, "layer_types": ["full_attention", "full_attention"]},
    "mistral4": {"head_dim": 32},
    "step3p7": {"mlp_layer_types": ["dense", "sparse"], "sliding_window": 8},
    "zaya": {"num_experts_per_tok": 1},
}
"""Fields of families that these values do not suit."""


@lru_cache(maxsize=1)
def families() -> list[str]:
    """Return the families with experts that have a module of their own, and with routers, in order."""
    import transformers  # noqa: PLC0415  # collection does without where no test of it runs

    sources = sorted((Path(transformers.__file__).parent / "models").glob("*/modeling_*.py"))
    pattern = re.compile(r"^class (?!\w*Density)\w*(Experts|Router)\w*\(", re.MULTILINE)
    return [path.parent.name for path in sources if pattern.search(path.read_text())]


def tiny_model(family: str) -> Any:
    """Return a model of a family for text, in evaluation mode, with weights of seed 0."""
    kind = _model_class(family)
    config = kind.config_class
    known = {*config().to_dict(), *(getattr(config, "attribute_map", None) or {})}
    fields = {name: value for name, value in SMALL.items() if name in known} | OWN.get(family, {})
    torch.manual_seed(0)
    model = kind(config(**fields)).eval()
    for name, table in model.named_buffers():
        if name.endswith("tid2eid"):  # which experts a token id has comes with a checkpoint
            table.copy_(torch.rand(len(table), 8).argsort(1)[:, : table.shape[1]])
    return model


def _model_class(family: str) -> Any:
    """Return the text model of a family, or else what AutoModel takes."""
    from transformers import PreTrainedModel  # noqa: PLC0415
    from transformers.models.auto.modeling_auto import MODEL_MAPPING_NAMES  # noqa: PLC0415

    module = importlib.import_module(f"transformers.models.{family}.modeling_{family}")
    automatic = {
        name for names in MODEL_MAPPING_NAMES.values() for name in ([names] if isinstance(names, str) else names)
    }
    models = {
        name: kind
        for name, kind in vars(module).items()
        if inspect.isclass(kind) and issubclass(kind, PreTrainedModel) and kind.__module__ == module.__name__
    }
    for wanted in (lambda name: name.endswith("TextModel"), lambda name: name in automatic):
        for name, kind in models.items():
            if wanted(name):
                return kind
    raise LookupError(f"{family} has no model among {', '.join(models)}")
