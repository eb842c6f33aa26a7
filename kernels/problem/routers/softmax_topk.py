"""Softmax over all experts, then the top k probabilities as they are (OLMoE, DeepSeek-V2, Qwen1.5-MoE)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..router import Router

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class SoftmaxTopk(Router):
    """Gates are probabilities and add up to at most 1."""

    def route(self, logits_TE: Tensor, K: int) -> tuple[Tensor, Tensor]:
        # The top logits, not the top probabilities: those of experts far behind are all 0 in float32.
        ids_TK = logits_TE.sort(dim=-1, descending=True, stable=True).indices[:, :K]
        return ids_TK.int(), logits_TE.float().softmax(dim=-1).gather(-1, ids_TK)


router = SoftmaxTopk
