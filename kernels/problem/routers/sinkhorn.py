"""Sinkhorn: the top k of a matrix whose rows and columns are balanced first, weighted by the raw logits (S-BASE).

Clark et al. 2022, "Unified Scaling Laws for Routed Language Models" (S-BASE). Megatron-LM offers it too.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..router import Router, RouterInputs, choice, parameter
from ..topk_rule import TopkRule, choose, finite, weigh

if TYPE_CHECKING:
    from torch import Tensor

MOST_ROUNDS = 10_000


@dataclass(frozen=True)
class Sinkhorn(Router):
    """Columns and rows of exp(z) (T, E) are scaled in turn, so that all columns come to have the sum T / E, rows 1.

    Each round sets log v_e = −logsumexp_t(z + log u), less its mean, then log u_t = −logsumexp_e(z + log v), in
    float64. There are ``rounds``; on the CPU they end early once log v changes by at most ``tolerance``, which
    elsewhere would wait for the device. The K largest of the scaled entries of a token are its experts. An infinite
    logit counts as the largest finite float32 in the balance.

    Gates are the ``gate`` of the raw logits of the chosen: their sigmoid, or their probability among all experts. They
    are not normalised. Only the gates have a gradient.
    """

    of_batch = True

    gate: str = choice("sigmoid", "softmax")
    tolerance: float = parameter(1e-4, least=1e-12, most=1.0)
    rounds: int = parameter(100, least=1, most=MOST_ROUNDS)

    @property
    def follows_load(self) -> bool:
        return False

    def route(self, inputs: RouterInputs, K: int) -> tuple[Tensor, Tensor]:
        logits_TE = inputs.logits_TE
        balanced_TE = self.balance(logits_TE).masked_fill(logits_TE.isneginf(), -math.inf)
        # Rows are scaled by a factor of their own, so that the order within a token is that of z + log v.
        ids_TK = choose(TopkRule(score="softmax"), balanced_TE, None, K)
        rule = TopkRule(score="sigmoid" if self.gate == "sigmoid" else "softmax")
        return ids_TK.int(), weigh(rule, logits_TE, ids_TK)

    def balance(self, logits_TE: Tensor) -> Tensor:
        """Return z + log v, float64 (T, E): the logarithm of the balanced matrix up to a factor for each token."""
        z_TE = finite(logits_TE.detach().double())
        T, E = z_TE.shape
        if not T:
            return z_TE
        # A factor for each token changes nothing, and rows whose largest is 0 lose no digits.
        z_TE = z_TE - z_TE.amax(-1, keepdim=True)
        u_T1, v_E = z_TE.new_zeros(T, 1), z_TE.new_zeros(E)
        for _ in range(self.rounds):
            before_E = v_E
            v_E = -(z_TE + u_T1).logsumexp(0)
            v_E = v_E - v_E.mean()
            u_T1 = -(z_TE + v_E).logsumexp(-1, keepdim=True)
            if z_TE.is_cpu and bool((v_E - before_E).abs().amax() <= self.tolerance):
                break  # on another device the question would wait for it
        return z_TE + v_E


router = Sinkhorn
