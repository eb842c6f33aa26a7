"""Shared expert: a dense MLP of any width that every token takes beside its experts, optionally behind a gate.

DeepSeekMoE (Dai et al. 2024, section 3.2) adds its output as it is; Qwen1.5-MoE, Qwen2-MoE and Qwen3-Next multiply it
by the sigmoid of a projection of the token, as transformers computes them. Several shared experts are one of their
widths together.
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

GATE = "layer_gate"


@dataclass(frozen=True)
class SharedExpert(ExpertBlock):
    """y_t = experts(x_t) + s_t MLP(x_t), where s_t is 1, or with ``sigmoid`` the logistic function of <w, x_t>.

    ``width`` is the hidden width of the MLP; 0 is that of an expert. It has the activation of the experts.
    """

    width: int = parameter(0, least=0, most=1 << 20)
    sigmoid: bool = False

    def _width(self, problem: Problem) -> int:
        return self.width or problem.F

    def widths(self, problem: Problem) -> dict[str, int]:
        return {"width": self._width(problem)}

    def shapes(self, problem: Problem) -> dict[str, tuple[int, int]]:
        gate = {GATE: (1, problem.D)} if self.sigmoid else {}
        return mlp_shapes(problem, self._width(problem)) | gate

    def own_flops(self, problem: Problem) -> int:
        return mlp_flops(problem, self._width(problem)) + (2 * problem.T * problem.D if self.sigmoid else 0)

    def own_elements(self, problem: Problem) -> int:
        gated = problem.T * problem.D if self.sigmoid and problem.mode == "train" else 0
        return mlp_elements(problem, self._width(problem)) + gated

    def forward(self, problem: Problem, experts: Experts, x_TD: Tensor, routing: Routing, weights: Weights) -> Tensor:
        shared_TD = mlp(problem, x_TD, weights.own)
        if self.sigmoid:
            shared_TD = shared_TD * (x_TD @ weights.own[GATE].mT).sigmoid()
        return experts(x_TD, routing, weights) + shared_TD

    def truth(self, problem: Problem, experts: TrueExperts, tensors: Mapping[str, Tensor]) -> Tensor:
        shared_TD = true_mlp(problem, tensors)
        if self.sigmoid:
            shared_TD = shared_TD / (1 + (-(tensors["x"] @ tensors[GATE].T)).exp())
        return experts(tensors["x"], tensors["gates"]) + shared_TD


block = SharedExpert
