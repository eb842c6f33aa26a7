"""Combine: sum the rows of each token, weighted by its gates, without atomics."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def gather_sum(rows_MD: Tensor, slot_TK: Tensor, gates_TK: Tensor) -> Tensor:
    """Compute y_t = sum over k of g_tk * rows[slot_tk], (T, D) of the rows' dtype; a slot of −1 adds nothing.

    It is one gather that accumulates and writes each output row once: there is no (T, K, D) copy, and additions always
    have the same order. Gate weights are rounded to the rows' dtype, sums are kept in float32. It is differentiable in
    rows and gates.
    """
    kept_TK = slot_TK >= 0
    if not bool(kept_TK.any()):
        return rows_MD.new_zeros(slot_TK.shape[0], rows_MD.shape[1])
    first_T = torch.cumsum(kept_TK.sum(1), 0) - kept_TK.sum(1)
    gates_n = gates_TK[kept_TK].to(rows_MD.dtype)
    return functional.embedding_bag(slot_TK[kept_TK], rows_MD, first_T, mode="sum", per_sample_weights=gates_n)
