"""Combine: sum the rows of each token, weighted by its gates, without atomics."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

PRODUCTS = {"cpu": 1 << 20}  # of elements that `row_dots` keeps at a time: they stay in a core's cache
PRODUCTS_ELSEWHERE = 1 << 24  # enough to fill a GPU with one launch


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


def row_dots(one_MD: Tensor, other_MD: Tensor) -> Tensor:
    """Compute <one_m, other_m> for every row, float32 (M,): products and sums are float32 too.

    In float16 a product or a sum past 65,504 would be infinite. Products exist for some rows at a time; a batched
    product of one row each keeps none, but took eight times as long on a CPU in bfloat16.
    """
    rows = max(1, PRODUCTS.get(one_MD.device.type, PRODUCTS_ELSEWHERE) // max(1, one_MD.shape[1]))
    if len(one_MD) <= rows:
        return torch.sum(one_MD.float() * other_MD, 1)
    dots_M = torch.empty(len(one_MD), dtype=torch.float32, device=one_MD.device)
    for first in range(0, len(one_MD), rows):
        some = slice(first, first + rows)
        torch.sum(one_MD[some].float() * other_MD[some], 1, out=dots_M[some])
    return dots_M
