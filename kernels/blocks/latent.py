"""Latent experts: a dense projection into a narrower width before the experts, and one out of it after them.

LatentMoE of NVIDIA's Nemotron 3 and of Kimi-K3: tokens travel and experts work in the latent width, the router and the
shared expert see the token at its full width.
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

INTO, OUT_OF = "layer_into", "layer_out_of"


@dataclass(frozen=True)
class Latent(ExpertBlock):
    """y_t = W_out experts(W_in x_t), plus MLP(x_t) where ``shared`` is not 0, the hidden width of that MLP.

    Experts have the ``width`` in place of D; 0 is D / 4 rounded up. The MLP has their activation.
    """

    width: int = parameter(0, least=0, most=1 << 20)
    shared: int = parameter(0, least=0, most=1 << 20)

    def _width(self, problem: Problem) -> int:
        return self.width or -(-problem.D // 4)

    def widths(self, problem: Problem) -> dict[str, int]:
        return {"width": self._width(problem), **({"shared": self.shared} if self.shared else {})}

    def core(self, problem: Problem) -> Problem:
        return problem.replace(block="", D=self._width(problem))

    def shapes(self, problem: Problem) -> dict[str, tuple[int, int]]:
        width = self._width(problem)
        beside = mlp_shapes(problem, self.shared) if self.shared else {}
        return {INTO: (width, problem.D), OUT_OF: (problem.D, width), **beside}

    def own_flops(self, problem: Problem) -> int:
        return 4 * problem.T * problem.D * self._width(problem) + mlp_flops(problem, self.shared)

    def own_elements(self, problem: Problem) -> int:
        tensors = 4 if problem.mode == "train" else 2  # into the experts and out of them, and their gradients
        beside = mlp_elements(problem, self.shared) if self.shared else 0
        return tensors * problem.T * self._width(problem) + beside

    def forward(self, problem: Problem, experts: Experts, x_TD: Tensor, routing: Routing, weights: Weights) -> Tensor:
        y_TD = experts(x_TD @ weights.own[INTO].mT, routing, weights) @ weights.own[OUT_OF].mT
        return y_TD + mlp(problem, x_TD, weights.own) if self.shared else y_TD

    def truth(self, problem: Problem, experts: TrueExperts, tensors: Mapping[str, Tensor]) -> Tensor:
        y_TD = experts(tensors["x"] @ tensors[INTO].T, tensors["gates"]) @ tensors[OUT_OF].T
        return y_TD + true_mlp(problem, tensors) if self.shared else y_TD


block = Latent
