"""Residual MLP (PR-MoE): a fixed MLP beside the experts, both mixed by a learned softmax over the two.

Rajbhandari et al. 2022, "DeepSpeed-MoE", section 4.1.2. The coefficients are those of the released layer of DeepSpeed
but for its bias of two numbers, whose gradient is a sum over all tokens that nearly cancels: no 16-bit layer gets it
right.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..problem import Problem
from ..problem.block import ExpertBlock, Experts, TrueExperts
from ..problem.parametrised import parameter
from ._mlp import mlp, mlp_elements, mlp_flops, mlp_shapes, true_mlp

if TYPE_CHECKING:
    from torch import Tensor

    from ..problem.routing import Routing
    from ..problem.tensors import Weights

MIX = "layer_mix"


@dataclass(frozen=True)
class ResidualMlp(ExpertBlock):
    """y_t = c_t0 experts(x_t) + c_t1 MLP(x_t) with c_t = softmax(W x_t) of two.

    ``width`` is the hidden width of the MLP; 0 is that of an expert. It has the activation of the experts.
    """

    width: int = parameter(0, least=0, most=1 << 20)

    def _width(self, problem: Problem) -> int:
        return self.width or problem.F

    def widths(self, problem: Problem) -> dict[str, int]:
        return {"width": self._width(problem)}

    def shapes(self, problem: Problem) -> dict[str, tuple[int, int]]:
        return mlp_shapes(problem, self._width(problem)) | {MIX: (2, problem.D)}

    def own_flops(self, problem: Problem) -> int:
        return mlp_flops(problem, self._width(problem)) + 4 * problem.T * problem.D

    def own_elements(self, problem: Problem) -> int:
        mixed = problem.T * problem.D if problem.mode == "train" else 0
        return mlp_elements(problem, self._width(problem)) + 2 * mixed

    def forward(self, problem: Problem, experts: Experts, x_TD: Tensor, routing: Routing, weights: Weights) -> Tensor:
        own = weights.own
        # In float32, as sums of experts are: the gradient of a coefficient is the difference of two of them.
        mix_T2 = (x_TD @ own[MIX].mT).float().softmax(-1)
        mixed_TD = experts(x_TD, routing, weights) * mix_T2[:, :1] + mlp(problem, x_TD, own) * mix_T2[:, 1:]
        return mixed_TD.to(x_TD.dtype)

    def truth(self, problem: Problem, experts: TrueExperts, tensors: Mapping[str, Tensor]) -> Tensor:
        score_T2 = (tensors["x"] @ tensors[MIX].T).exp()
        mix_T2 = score_T2 / score_T2.sum(1, keepdim=True)
        of_experts_TD = experts(tensors["x"], tensors["gates"])
        return mix_T2[:, :1] * of_experts_TD + mix_T2[:, 1:] * true_mlp(problem, tensors)


block = ResidualMlp
