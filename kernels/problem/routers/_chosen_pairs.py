"""Routes from a map of tokens to experts, for routers by which tokens have different numbers of experts."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def routes_of_pairs(chosen_TE: Tensor, weight_TE: Tensor) -> tuple[Tensor, Tensor]:
    """Return ids int32 and gates float32, both (T, W), of the chosen pairs: the largest weight of a token first.

    W is the largest number of experts of a token, at least 1. Behind its own a token has absent routes with gate 0.
    """
    import torch

    tokens, experts = chosen_TE.shape
    width = max(1, int(chosen_TE.sum(-1).max())) if tokens else 1
    if not experts:
        raise ValueError("a map of tokens to experts needs an expert")
    rank_TE = weight_TE.detach().double().masked_fill(~chosen_TE, -torch.inf)
    ids_TW = rank_TE.sort(dim=-1, descending=True, stable=True).indices[:, :width]
    present_TW = chosen_TE.gather(-1, ids_TW)
    gates_TW = weight_TE.gather(-1, ids_TW).float().masked_fill(~present_TW, 0)
    return ids_TW.masked_fill(~present_TW, -1).int(), gates_TW
