"""Launches of the Triton kernels of top-k routers; the same functions as those of `cuda.topk_routing`."""

from __future__ import annotations

import torch
from torch import Tensor
from triton import next_power_of_2

from ..problem.topk_rule import TopkRule
from ..triton.launch import launch
from . import router_kernels

TILE = 1024
"""Logits of a program: those of some tokens, or of one that has more."""

MOST_TILE = 1 << 13
"""Logits of the widest program: its registers hold all of their ranks."""

PER_WARP = 256


def fits(rule: TopkRule, columns: int) -> bool:
    """Return whether the logits of a token fit into the registers of a program."""
    return _groups(rule) * _size(rule, columns) <= MOST_TILE


def choose_experts(rule: TopkRule, logits_TE: Tensor, bias_E: Tensor | None, chosen: int) -> tuple[Tensor, Tensor]:
    """Return ids, int32, and gates, float32, both (T, K), as `topk_rule.choose` and `topk_rule.weigh` have them.

    Logits are float32, contiguous and on the device; so are biases. One launch, none for no tokens.
    """
    tokens, columns = logits_TE.shape
    ids_TK = torch.empty(tokens, chosen, dtype=torch.int32, device=logits_TE.device)
    gates_TK = torch.empty(tokens, chosen, dtype=torch.float32, device=logits_TE.device)
    groups, size = _groups(rule), _size(rule, columns)
    block = max(1, TILE // (groups * size))
    launch(
        router_kernels.choose_experts,
        -(-tokens // block),
        *(logits_TE, bias_E, ids_TK, gates_TK, tokens),
        warps=_warps(block * groups * size),
        COLUMNS=columns,
        SHARED=rule.shared,
        CHOSEN=chosen,
        GROUPS=rule.groups,
        TOP_GROUPS=rule.top_groups,
        GROUP_BEST=rule.group_best,
        SCORE=rule.score,
        BY_SCORES=rule.compares_scores(biased=bias_E is not None),
        RENORMALISE=rule.renormalise,
        SCALE=rule.scale,
        BLOCK_T=block,
        BLOCK_G=groups,
        BLOCK_S=size,
        BLOCK_K=next_power_of_2(chosen),
        BLOCK_H=next_power_of_2(max(1, rule.shared)),
    )
    return ids_TK, gates_TK


def differentiate_gates(
    rule: TopkRule, logits_TE: Tensor, ids_TK: Tensor, gates_TK: Tensor, dgates_TK: Tensor
) -> Tensor:
    """Return the gradient of the logits, float32 (T, E), from that of the gates; all contiguous. One launch."""
    tokens, columns = logits_TE.shape
    dlogits_TE = torch.empty_like(logits_TE)
    width = next_power_of_2(columns)
    block = max(1, TILE // width)
    launch(
        router_kernels.differentiate_gates,
        -(-tokens // block),
        *(logits_TE, ids_TK, gates_TK, dgates_TK, dlogits_TE, tokens),
        warps=_warps(block * width),
        COLUMNS=columns,
        SHARED=rule.shared,
        CHOSEN=ids_TK.shape[1],
        SCORE=rule.score,
        RENORMALISE=rule.renormalise,
        SCALE=rule.scale,
        BLOCK_T=block,
        BLOCK_C=width,
        BLOCK_K=next_power_of_2(ids_TK.shape[1]),
        BLOCK_H=next_power_of_2(max(1, rule.shared)),
    )
    return dlogits_TE


def _groups(rule: TopkRule) -> int:
    return int(next_power_of_2(rule.groups))


def _size(rule: TopkRule, columns: int) -> int:
    return int(next_power_of_2((columns - rule.shared) // rule.groups))


def _warps(tile: int) -> int:
    return max(4, min(16, tile // PER_WARP))
