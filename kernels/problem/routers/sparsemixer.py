"""SparseMixer: each choice weighed by a softmax over the experts whose logits are near its own (Phi-3.5-MoE).

Liu et al. 2024, "GRIN: GRadient-INformed MoE", as the model's code in transformers 5 has it for inference: in training
its choices are sampled and their gradient is estimated.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..parametrised import parameter
from ..router import Router, RouterInputs
from ..topk_rule import TopkRule, choose, finite

if TYPE_CHECKING:
    from torch import Tensor

LARGEST = TopkRule(score="softmax")


@dataclass(frozen=True)
class SparseMixer(Router):
    """The i-th choice is the i-th largest logit m, among the experts that no choice before it took.

    It weighs exp(m) / Σ exp(z) over those of them that are near: (m − z) / max(|z|, m) is at most twice ``jitter``.
    The weights of a token are not normalised together. Each gate is at most 1.
    """

    jitter: float = parameter(0.01, least=0.0, most=1.0)

    def route(self, inputs: RouterInputs, K: int) -> tuple[Tensor, Tensor]:
        ids_TK = choose(LARGEST, inputs.logits_TE, None, K)
        left_TE = finite(inputs.logits_TE.float())
        z_TE = left_TE.detach()
        gates_TK = left_TE.new_zeros(ids_TK.shape)
        for i in range(K):
            id_T1 = ids_TK[:, i : i + 1]
            m_T1 = z_TE.gather(-1, id_T1)
            far_TE = (m_T1 - z_TE) / z_TE.abs().maximum(m_T1) > 2 * self.jitter
            gate_T1 = left_TE.masked_fill(far_TE, -math.inf).softmax(-1).gather(-1, id_T1)
            gates_TK = gates_TK.scatter(-1, id_T1.new_full(id_T1.shape, i), gate_T1)
            left_TE = left_TE.scatter(-1, id_T1, -math.inf)
        none_left_TK = inputs.logits_TE.gather(-1, ids_TK).isneginf()
        return ids_TK.int(), gates_TK.masked_fill(none_left_TK, 0)


router = SparseMixer
