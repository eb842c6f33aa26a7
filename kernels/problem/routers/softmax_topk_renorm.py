"""Softmax, top k, divided by their sum (Mixtral, Qwen3); equals the softmax of the top k logits (gpt-oss)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from .softmax_topk import SoftmaxTopk

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class SoftmaxTopkRenorm(SoftmaxTopk):
    """Gates add up to 1."""

    def route(self, logits_TE: Tensor, K: int) -> tuple[Tensor, Tensor]:
        ids_TK, gates_TK = super().route(logits_TE, K)
        return ids_TK, gates_TK / gates_TK.sum(-1, keepdim=True)


router = SoftmaxTopkRenorm
