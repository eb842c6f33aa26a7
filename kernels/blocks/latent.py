"""Latent experts: a dense projection into a narrower width before the experts, and one out of it after them.

LatentMoE of NVIDIA's Nemotron 3 and of Kimi-K3: tokens travel and experts work in the latent width, the router sees the
token at its full width.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..problem import Problem
from ..problem.block import ExpertBlock, Experts, TrueExperts
from ..problem.parametrised import parameter

if TYPE_CHECKING:
    from torch import Tensor

    from ..problem.routing import Routing
    from ..problem.tensors import Weights

INTO, OUT_OF = "layer_into", "layer_out_of"


@dataclass(frozen=True)
class Latent(ExpertBlock):
    """y_t = W_out experts(W_in x_t); experts have the ``width`` in place of D, and 0 is D / 4 rounded up."""

    width: int = parameter(0, least=0, most=1 << 20)

    def _width(self, problem: Problem) -> int:
        return self.width or -(-problem.D // 4)

    def core(self, problem: Problem) -> Problem:
        return problem.replace(block="", D=self._width(problem))

    def shapes(self, problem: Problem) -> dict[str, tuple[int, int]]:
        width = self._width(problem)
        return {INTO: (width, problem.D), OUT_OF: (problem.D, width)}

    def own_flops(self, problem: Problem) -> int:
        return 4 * problem.T * problem.D * self._width(problem)

    def own_elements(self, problem: Problem) -> int:
        tensors = 4 if problem.mode == "train" else 2  # into the experts and out of them, and their gradients
        return tensors * problem.T * self._width(problem)

    def forward(self, problem: Problem, experts: Experts, x_TD: Tensor, routing: Routing, weights: Weights) -> Tensor:
        return experts(x_TD @ weights.own[INTO].mT, routing, weights) @ weights.own[OUT_OF].mT

    def truth(self, problem: Problem, experts: TrueExperts, tensors: Mapping[str, Tensor]) -> Tensor:
        return experts(tensors["x"] @ tensors[INTO].T, tensors["gates"]) @ tensors[OUT_OF].T


block = Latent
