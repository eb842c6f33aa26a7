"""Blocks of transformers have the matrices of ours: by the configuration of each family, as many weights of experts.

What stands around the experts has as many parameters as the block that the configuration reads as.
"""

from __future__ import annotations

import importlib
import inspect
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from moebench.kernels.problem.configs.model_config import model_of_config

pytest.importorskip("transformers", reason="needs the extra 'peers' to compare with transformers")

SMALL: dict[str, Any] = {
    "hidden_size": 16,
    **dict.fromkeys(("intermediate_size", "moe_intermediate_size"), 8),
    **dict.fromkeys(("num_local_experts", "num_experts", "n_routed_experts", "moe_num_experts"), 4),
    **dict.fromkeys(("num_experts_per_tok", "moe_k", "moe_topk"), 2),
    **dict.fromkeys(("num_hidden_layers", "num_attention_heads", "num_key_value_heads"), 2),
    **dict.fromkeys(("n_group", "topk_group"), 1),
    **dict.fromkeys(("n_shared_experts", "num_shared_experts", "moe_num_shared_experts"), 3),
    **dict.fromkeys(("shared_expert_intermediate_size", "moe_shared_expert_intermediate_size"), 40),
    **dict.fromkeys(("shared_experts_intermediate_size", "share_expert_dim", "shared_intermediate_size"), 56),
    **dict.fromkeys(("first_k_dense_replace", "num_dense_layers", "moe_layer_start_index"), 0),
    "shared_expert_combination_strategy": "sum",
    "moe_latent_size": 4,
    "moe_hidden_size": 4,
    "layers_block_type": ["moe", "moe"],
    "vocab_size": 64,
    "pad_token_id": 0,
    "mlp_layer_types": ["sparse", "sparse"],
    "mlp_only_layers": [],
}
"""Values of those fields that a configuration has."""
BLOCKS = {
    "AfmoeConfig": ("afmoe", "AfmoeSparseMoeBlock", "shared:width=24"),
    "AriaTextConfig": ("aria", "AriaTextMoELayer", "shared:width=24"),
    "Cohere2MoeConfig": ("cohere2_moe", "Cohere2MoeSparseMoeBlock", "shared:width=24"),
    "DeepseekV2Config": ("deepseek_v2", "DeepseekV2Moe", "shared:width=24"),
    "DeepseekV3Config": ("deepseek_v3", "DeepseekV3MoE", "shared:width=24"),
    "DeepseekV4Config": ("deepseek_v4", "DeepseekV4SparseMoeBlock", "shared"),
    "Dots1Config": ("dots1", "Dots1MoE", "shared:width=24"),
    "Dots3NoteTextConfig": ("dots3_note", "Dots3NoteTextMoE", "shared:width=168"),
    "Ernie4_5_MoeConfig": ("ernie4_5_moe", "Ernie4_5_MoeSparseMoeBlock", "shared:width=24"),
    "ExaoneMoeConfig": ("exaone_moe", "ExaoneMoeSparseMoEBlock", "shared:width=24"),
    "FlintConfig": ("flint", "FlintSparseMoeBlock", "shared:width=40"),
    "Glm4MoeConfig": ("glm4_moe", "Glm4MoeMoE", "shared:width=24"),
    "HYV3Config": ("hy_v3", "HYV3MoE", "shared:width=24"),
    "HunYuanMoEV1Config": ("hunyuan_v1_moe", "HunYuanMoEV1Moe", "shared"),
    "Kolibri1Config": ("kolibri1", "Kolibri1SparseMoeBlock", "shared:width=40"),
    "LagunaConfig": ("laguna", "LagunaSparseMoeBlock", "shared:width=40"),
    "Llama4TextConfig": ("llama4", "Llama4TextMoe", "shared"),
    "MiniMaxM3VLTextConfig": ("minimax_m3_vl", "MiniMaxM3VLSparseMoeBlock", "shared:width=56"),
    "MixtralConfig": ("mixtral", "MixtralSparseMoeBlock", ""),
    "MuseSparkTextConfig": ("muse_spark", "MuseSparkMoE", "latent:width=4"),
    "NemotronHConfig": ("nemotron_h", "NemotronHMoE", "latent:width=4,shared=40"),
    "Qwen2MoeConfig": ("qwen2_moe", "Qwen2MoeSparseMoeBlock", "shared:width=40,sigmoid=true"),
    "Qwen3NextConfig": ("qwen3_next", "Qwen3NextSparseMoeBlock", "shared:width=40,sigmoid=true"),
    "Qwen3_5MoeTextConfig": ("qwen3_5_moe", "Qwen3_5MoeSparseMoeBlock", "shared:width=40,sigmoid=true"),
    "SolarOpenConfig": ("solar_open", "SolarOpenMoE", "shared:width=24"),
    "Step3p7TextConfig": ("step3p7", "Step3p7SparseMoeBlock", "shared:width=56"),
}
"""By configuration class: the family's folder, its block, and the text that its configuration reads as."""


@pytest.mark.parametrize("name", BLOCKS)
def test_a_block_has_as_many_parameters_as_that_of_transformers(name: str, tmp_path: Path) -> None:
    family, block, text = BLOCKS[name]
    try:
        configuration = importlib.import_module(f"transformers.models.{family}.configuration_{family}")
        modeling = importlib.import_module(f"transformers.models.{family}.modeling_{family}")
    except ModuleNotFoundError:
        pytest.skip(f"this version of transformers has no {family}")
    known = getattr(configuration, name)().to_dict() | dict.fromkeys(getattr(configuration, name).attribute_map)
    kinds = {"mlp_layer_types": ["moe", "moe"]} if family == "deepseek_v4" else {}
    fields = {key: value for key, value in (SMALL | kinds).items() if key in known}
    config = getattr(configuration, name)(**fields)
    (tmp_path / "config.json").write_text(json.dumps(config.to_dict()))
    model = model_of_config(tmp_path / "config.json")
    assert model.block == text

    kind = getattr(modeling, block)
    more = {"layer_idx": 1} if "layer_idx" in inspect.signature(kind).parameters else {}
    with torch.device("meta"):
        made = kind(config, **more)
    parameters = {name: parameter.shape for name, parameter in made.named_parameters() if parameter.ndim > 1}
    router = [shape for name, shape in parameters.items() if name.split(".")[0] in {"gate", "router"}]
    assert sum(map(torch.Size.numel, parameters.values())) - sum(map(torch.Size.numel, router)) == (
        model.parameters // model.layers
    )
