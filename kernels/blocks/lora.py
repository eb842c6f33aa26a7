"""LoRA experts: low-rank updates that a token chooses beside one dense product, as of adapters that serve together.

Hu et al. 2021, "LoRA", equation 3; experts of it as in MoLoRA (Zadouri et al. 2023, section 3) and LoRAMoE (Dou et al.
2023). F is the rank; the scale alpha / r of an update is a factor of its gate weight.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..problem import Problem
from ..problem.block import ExpertBlock, Experts, TrueExperts

if TYPE_CHECKING:
    from torch import Tensor

    from ..problem.routing import Routing
    from ..problem.tensors import Weights

BASE = "layer_base"


@dataclass(frozen=True)
class Lora(ExpertBlock):
    """y_t = W x_t + sum over k of g_tk B_e A_e x_t, where e is the k-th expert, A is ``w_up`` and B is ``w_down``."""

    def refuses(self, problem: Problem) -> str | None:
        if problem.gated or problem.activation != "identity":
            return "has no activation in an expert: give activation = 'identity', gated = False (a suite file can)"
        return None

    def shapes(self, problem: Problem) -> dict[str, tuple[int, int]]:
        return {BASE: (problem.D, problem.D)}

    def own_flops(self, problem: Problem) -> int:
        return 2 * problem.T * problem.D * problem.D

    def own_elements(self, problem: Problem) -> int:
        return problem.T * problem.D

    def forward(self, problem: Problem, experts: Experts, x_TD: Tensor, routing: Routing, weights: Weights) -> Tensor:
        return experts(x_TD, routing, weights) + x_TD @ weights.own[BASE].mT

    def truth(self, problem: Problem, experts: TrueExperts, tensors: Mapping[str, Tensor]) -> Tensor:
        return tensors["x"] @ tensors[BASE].T + experts(tensors["x"], tensors["gates"])


block = Lora
