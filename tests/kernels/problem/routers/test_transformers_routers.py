"""Blocks of transformers with random weights and biases route as ours do: the same ids, and gates within 1e-6.

Both see the logits that the block made of its tokens, and ours is the router that the block's configuration reads as.
"""

from __future__ import annotations

import importlib
import inspect
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from moebench.kernels.problem.configs.model_config import model_of_config
from moebench.kernels.problem.draw_routes import route
from moebench.kernels.problem.router import Router, RouterInputs
from moebench.kernels.problem.routing import NO_ROUTE

pytest.importorskip("transformers", reason="needs the extra 'peers' to compare with transformers")

T, D, E, K = 96, 16, 16, 3
SMALL: dict[str, Any] = {
    **dict.fromkeys(("hidden_size", "intermediate_size", "moe_intermediate_size", "expert_ffn_hidden_size"), D),
    **dict.fromkeys(("num_local_experts", "num_experts", "n_routed_experts", "moe_num_experts"), E),
    **dict.fromkeys(("num_experts_per_tok", "moe_k", "moe_topk", "top_k_experts"), K),
    **dict.fromkeys(("num_hidden_layers", "num_attention_heads", "num_key_value_heads"), 2),
    **dict.fromkeys(("n_group", "topk_group", "n_shared_experts"), 1),
    **dict.fromkeys(("first_k_dense_replace", "num_dense_layers", "moe_layer_start_index"), 0),
    "vocab_size": 64,
    "pad_token_id": 0,
    "mlp_layer_types": ["sparse", "sparse"],
    "mlp_only_layers": [],
}
"""Values of those fields that a configuration has."""
BIASES = ("e_score_correction_bias", "expert_bias", "balancing_biases")


@dataclass(frozen=True)
class Block:
    """The block of one family, the router that it reads as, and the fields of its configuration that differ."""

    family: str
    config: str
    block: str
    router: str
    fields: dict[str, Any] = field(default_factory=dict)
    gate: str = "gate"


GROUPS = {"n_group": 4, "topk_group": 2}
RENORMALISED = {"norm_topk_prob": True}
BLOCKS = {
    "Mixtral": Block("mixtral", "MixtralConfig", "MixtralSparseMoeBlock", "softmax_topk_renorm"),
    "Qwen3-MoE": Block("qwen3_moe", "Qwen3MoeConfig", "Qwen3MoeSparseMoeBlock", "softmax_topk_renorm", RENORMALISED),
    "OLMoE": Block("olmoe", "OlmoeConfig", "OlmoeSparseMoeBlock", "softmax_topk"),
    "DeepSeek-V2": Block(
        "deepseek_v2",
        "DeepseekV2Config",
        "DeepseekV2Moe",
        "softmax_topk:groups=4,top_groups=2,scale=16",
        GROUPS | {"topk_method": "group_limited_greedy", "routed_scaling_factor": 16.0},
    ),
    "DeepSeek-V2-Lite": Block("deepseek_v2", "DeepseekV2Config", "DeepseekV2Moe", "softmax_topk"),
    "DeepSeek-V3": Block(
        "deepseek_v3", "DeepseekV3Config", "DeepseekV3MoE", "sigmoid_topk:groups=4,top_groups=2,scale=2.5", GROUPS
    ),
    "GLM-4": Block("glm4_moe", "Glm4MoeConfig", "Glm4MoeMoE", "sigmoid_topk", RENORMALISED),
    "Llama-4": Block(
        "llama4", "Llama4TextConfig", "Llama4TextMoe", "topk_sigmoid", {"num_experts_per_tok": 1}, gate="router"
    ),
    "gpt-oss": Block("gpt_oss", "GptOssConfig", "GptOssMLP", "topk_softmax", gate="router"),
    "Qwen3-Next": Block("qwen3_next", "Qwen3NextConfig", "Qwen3NextSparseMoeBlock", "softmax_topk_renorm"),
    "ERNIE-4.5": Block("ernie4_5_moe", "Ernie4_5_MoeConfig", "Ernie4_5_MoeSparseMoeBlock", "softmax_topk_renorm"),
    "LongCat-Flash": Block(
        "longcat_flash",
        "LongcatFlashConfig",
        "LongcatFlashMoE",
        "softmax_topk:zero_experts=8,scale=6",
        {"zero_expert_num": 8, "routed_scaling_factor": 6.0},
        gate="router",
    ),
    "Phi-3.5-MoE": Block(
        "phimoe", "PhimoeConfig", "PhimoeSparseMoeBlock", "sparsemixer", {"num_experts_per_tok": 2}, gate="router"
    ),
    "MiniMax-M2": Block("minimax_m2", "MiniMaxM2Config", "MiniMaxM2SparseMoeBlock", "sigmoid_topk"),
    "DeepSeek-V4": Block(
        "deepseek_v4",
        "DeepseekV4Config",
        "DeepseekV4SparseMoeBlock",
        "sqrt_softplus_topk:scale=1.5",
        {"mlp_layer_types": ["moe", "moe"]},
    ),
    "Granite": Block("granitemoe", "GraniteMoeConfig", "GraniteMoeMoE", "topk_softmax", gate="router"),
    "North": Block(
        "cohere2_moe",
        "Cohere2MoeConfig",
        "Cohere2MoeSparseMoeBlock",
        "topk_sigmoid",
        {"expert_selection_fn": "sigmoid", "norm_topk_prob": False},
    ),
    "Kolibri": Block("kolibri1", "Kolibri1Config", "Kolibri1SparseMoeBlock", "topk_sigmoid"),
    "Flint": Block("flint", "FlintConfig", "FlintSparseMoeBlock", "sigmoid_topk"),
    "Inkling": Block(
        "inkling",
        "InklingTextConfig",
        "InklingMoE",
        "sigmoid_topk:scale=8,shared_experts=2",
        {"n_shared_experts": 2},
    ),
    "ZAYA1": Block(
        "zaya",
        "ZayaConfig",
        "ZayaSparseMoeBlock",
        "softmax_topk:zero_experts=1",
        {"num_experts_per_tok": 1},
    ),
    "Mistral-4": Block(
        "mistral4", "Mistral4Config", "Mistral4MoE", "softmax_topk_renorm:groups=4,top_groups=2,group_best=2", GROUPS
    ),
    "Trinity": Block(
        "afmoe", "AfmoeConfig", "AfmoeSparseMoeBlock", "sigmoid_topk:scale=2.8", {"route_scale": 2.8}, gate="router"
    ),
}


@pytest.fixture(params=BLOCKS)
def block(request: pytest.FixtureRequest) -> Block:
    return BLOCKS[request.param]


def configured(block: Block) -> Any:
    """Return the tiny configuration of a block."""
    package = f"transformers.models.{block.family}"
    try:
        kind = getattr(importlib.import_module(f"{package}.configuration_{block.family}"), block.config)
    except ModuleNotFoundError:
        pytest.skip(f"this version of transformers has no {block.family}")
    known = {*kind().to_dict(), *(kind.attribute_map or {})}
    return kind(**{name: value for name, value in SMALL.items() if name in known} | block.fields)


@dataclass(frozen=True)
class Routed:
    """Result of a block for its tokens: logits of all columns, selection biases, and ids and gates of its choices."""

    logits_TE: Tensor
    bias_E: Tensor | None
    ids_TK: Tensor
    gates_TK: Tensor


def routed_by(block: Block, config: Any, seed: int) -> Routed:
    """Return what the block does with random tokens, parameters and biases."""
    kind = getattr(importlib.import_module(f"transformers.models.{block.family}.modeling_{block.family}"), block.block)
    index = {"layer_idx": 0} if "layer_idx" in inspect.signature(kind).parameters else {}
    module = kind(config, **index).eval()
    generator = torch.Generator().manual_seed(seed)
    bias_E = None
    with torch.no_grad():
        for name, tensor in [*module.named_parameters(), *module.named_buffers()]:
            if name.endswith("global_scale"):
                continue  # Inkling's learned factor, 1 before training
            tensor.normal_(generator=generator)
            if name.endswith(BIASES):
                bias_E = tensor.mul_(0.1).flatten()
        found: list[tuple[Tensor, ...]] = []
        gate = module.get_submodule(block.gate)
        gate.register_forward_hook(lambda _module, _inputs, outputs: found.append(outputs))
        x_TD = torch.randn(T, D, generator=generator) * 0.3
        module(x_TD[None])
    if block.family == "llama4":  # its gates lie in a matrix of all experts, 0 where none is chosen
        gates_TE, logits_TE = found[0]
        return Routed(logits_TE, None, gates_TE.argmax(1, keepdim=True), gates_TE.amax(1, keepdim=True))
    logits_TE, gates_TK, ids_TK = found[0][:3]
    if block.family == "inkling":  # it returns no logits of its shared experts
        logits_TE = x_TD @ gate.weight.mT
    if block.family == "zaya":  # the class that skips has id 0 with gate 0
        ids_TK = ids_TK.masked_fill(gates_TK == 0, NO_ROUTE)
    ids_TK = ids_TK.masked_fill(ids_TK >= E, NO_ROUTE)
    return Routed(logits_TE, bias_E, ids_TK, gates_TK.masked_fill(ids_TK == NO_ROUTE, 0))


def test_a_block_routes_as_the_router_that_its_configuration_reads_as(block: Block, tmp_path: Path) -> None:
    config = configured(block)
    path = tmp_path / "config.json"
    path.write_text(json.dumps(config.to_dict()))
    router = Router.parse(model_of_config(path).router)
    assert router.spec == block.router
    spread = torch.zeros(1 + E, dtype=torch.int64)
    for seed in range(3):
        theirs = routed_by(block, config, seed)
        inputs = RouterInputs(logits_TE=theirs.logits_TE, bias_E=theirs.bias_E)
        ours = route(router, inputs, theirs.ids_TK.shape[1])
        assert sets(ours.ids_TK, ours.gates_TK)[0] == sets(theirs.ids_TK, theirs.gates_TK)[0]
        torch.testing.assert_close(
            sets(ours.ids_TK, ours.gates_TK)[1], sets(theirs.ids_TK, theirs.gates_TK)[1], rtol=1e-6, atol=1e-6
        )
        spread += torch.bincount(theirs.ids_TK.flatten() - NO_ROUTE, minlength=E + 1)
    assert (spread[1:] > 0).sum() > E // 2  # the comparison sees most experts
    assert (spread[0] > 0) == router.leaves_out


def sets(ids_TK: Tensor, gates_TK: Tensor) -> tuple[list[list[int]], Tensor]:
    """Return every token's ids in ascending order, with their gates; of what is no route the gate is 0."""
    order_TK = ids_TK.long().argsort(dim=1, stable=True)
    sorted_TK = ids_TK.long().gather(1, order_TK)
    return sorted_TK.tolist(), gates_TK.gather(1, order_TK).masked_fill(sorted_TK < 0, 0)


def test_biases_are_set_where_a_family_has_them() -> None:
    """Without this, a family that renames its bias would be compared without one."""
    biased = {name for name, block in BLOCKS.items() if routed_by(block, configured(block), 0).bias_E is not None}
    assert biased == {
        *("DeepSeek-V3", "GLM-4", "ERNIE-4.5", "LongCat-Flash", "MiniMax-M2", "DeepSeek-V4", "Kolibri", "Inkling"),
        *("ZAYA1", "Trinity"),
    }
