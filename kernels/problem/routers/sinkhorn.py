"""Top k of logits that are balanced by Sinkhorn's iteration, weighted by the raw scores (Clark et al. 2022, S-BASE)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from ..parametrised import parameter
from ..router import Router, RouterInputs
from ..topk_rule import TopkRule, choose, weigh

if TYPE_CHECKING:
    from torch import Tensor

ONE = TopkRule(score="sigmoid")
MANY = TopkRule(score="softmax")
LEAST = 1e-30  # of a sum that divides


@dataclass(frozen=True)
class Sinkhorn(Router):
    """Rows and columns of exp(z) are scaled in turn until all rows have one sum and all columns another.

    It ends after ``most`` iterations, on a CPU as soon as the experts' factors change by ``tolerance`` or less
    relatively. A token takes the K largest of its scaled row. Weights are the raw scores of the chosen: sigmoid(z)
    for K = 1, else the softmax over all experts, as Megatron-Core has it. Choices depend on the other tokens. Gates add
    up to at most 1.
    """

    tolerance: float = parameter(1e-4, least=1e-9, most=1.0)
    most: int = parameter(100, least=1, most=100_000)

    of_batch: ClassVar[bool] = True

    @property
    def follows_load(self) -> bool:
        return False

    def route(self, inputs: RouterInputs, K: int) -> tuple[Tensor, Tensor]:
        logits_TE = inputs.logits_TE
        balanced_TE = logits_TE.detach().double() + self.log_factors(logits_TE)
        ids_TK = choose(MANY, balanced_TE, inputs.bias_E, K)
        return ids_TK.int(), weigh(ONE if K == 1 else MANY, logits_TE, ids_TK)

    def log_factors(self, logits_TE: Tensor) -> Tensor:
        """Return the logarithms of the experts' factors, float64 (E,)."""
        scaled_TE = logits_TE.detach().double()
        tokens, experts = scaled_TE.shape
        # A row's factor divides it by its own sum anyway: its largest element may be 1.
        scaled_TE = (scaled_TE - scaled_TE.amax(-1, keepdim=True)).nan_to_num(nan=0.0).exp()
        factor_E = scaled_TE.new_ones(experts)
        for _ in range(self.most if tokens else 0):
            factor_T = 1 / (tokens * (scaled_TE @ factor_E).clamp(min=LEAST))
            before_E = factor_E
            factor_E = 1 / (experts * (factor_T @ scaled_TE).clamp(min=LEAST))
            # Elsewhere the host would wait for the answer.
            if factor_E.is_cpu and bool(((factor_E - before_E).abs() <= self.tolerance * factor_E).all()):
                break
        return factor_E.log()


router = Sinkhorn
