"""Launches of ``topk_routing.cu``."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ..problem.topk_rule import SCORES, TopkRule
from . import nvrtc

_WARP = 32
_WARPS = 4  # of a block, one for each token
_RANK_BYTES = 8


def fits(rule: TopkRule, columns: int) -> bool:
    """Return whether the ranks of a token's experts and groups fit into shared memory: those of 12,000 do."""
    return _token_bytes(rule, columns) <= nvrtc.SHARED_BYTES


def choose_experts(rule: TopkRule, logits_TE: Tensor, bias_E: Tensor | None, chosen: int) -> tuple[Tensor, Tensor]:
    """Return ids, int32, and gates, float32, both (T, K), as `topk_rule.choose` and `topk_rule.weigh` have them.

    Logits are float32, contiguous and on the device; so are biases. One launch, none for no tokens.
    """
    tokens, columns = logits_TE.shape
    ids_TK = torch.empty(tokens, chosen, dtype=torch.int32, device=logits_TE.device)
    gates_TK = torch.empty(tokens, chosen, dtype=torch.float32, device=logits_TE.device)
    warps = min(_WARPS, nvrtc.SHARED_BYTES // _token_bytes(rule, columns))
    by_scores = rule.compares_scores(biased=bias_E is not None)
    if tokens:
        nvrtc.launch(
            *("topk_routing", "choose_experts", logits_TE, bias_E, np.int64(tokens)),
            *(np.int32(number) for number in (columns, columns - rule.shared, chosen, SCORES.index(rule.score))),
            *(np.int32(number) for number in (by_scores, rule.groups, rule.top_groups, rule.group_best)),
            *(np.int32(rule.renormalise), np.float64(rule.scale), ids_TK, gates_TK),
            device=logits_TE.device,
            grid=-(-tokens // warps),
            threads=warps * _WARP,
            shared=warps * _token_bytes(rule, columns),
        )
    return ids_TK, gates_TK


def differentiate_gates(
    rule: TopkRule, logits_TE: Tensor, ids_TK: Tensor, gates_TK: Tensor, dgates_TK: Tensor
) -> Tensor:
    """Return the gradient of the logits, float32 (T, E), from that of the gates; all contiguous. One launch."""
    tokens, columns = logits_TE.shape
    dlogits_TE = torch.empty_like(logits_TE)
    if tokens:
        nvrtc.launch(
            *("topk_routing", "differentiate_gates", logits_TE, np.int64(tokens)),
            *(np.int32(number) for number in (columns, columns - rule.shared, ids_TK.shape[1])),
            *(np.int32(SCORES.index(rule.score)), np.int32(rule.renormalise), np.float64(rule.scale)),
            *(ids_TK, gates_TK, dgates_TK, dlogits_TE),
            device=logits_TE.device,
            grid=-(-tokens // _WARPS),
            threads=_WARPS * _WARP,
        )
    return dlogits_TE


def _token_bytes(rule: TopkRule, columns: int) -> int:
    return _RANK_BYTES * (columns - rule.shared + rule.groups)
