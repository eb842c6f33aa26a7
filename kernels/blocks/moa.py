"""Mixture of Attention Heads: a token picks K of E query and output projections; keys and values are shared.

Zhang et al. 2022, "Mixture of Attention Heads: Selecting Attention Heads Per Token", section 3.1, here causal.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from ..problem import Problem
from ..problem.block import ProjectionBlock, RoutedLinear
from ..problem.parametrised import parameter
from ._attention import (
    attention,
    attention_flops,
    refuses_attention,
    routing_of,
    true_attention,
    true_linear,
    weighted,
)

if TYPE_CHECKING:
    from torch import Tensor

    from ..problem.routing import Routing
    from ..problem.tensors import Weights

KEYS, VALUES = "layer_keys", "layer_values"


@dataclass(frozen=True)
class MixtureOfAttentionHeads(ProjectionBlock):
    """y_t = sum over k of g_tk O_e attention(Q_e x_t, K x, V x) with e = e_tk.

    Q is ``w_up``, O is ``w_down``, F is the width of a head. ``length`` is the number of tokens of a sequence, of which
    the last may have fewer.
    """

    length: int = parameter(256, least=1, most=1 << 30)

    by_token: ClassVar[bool] = False

    def refuses(self, problem: Problem) -> str | None:
        return refuses_attention(problem, self.length)

    def shapes(self, problem: Problem) -> dict[str, tuple[int, int]]:
        return {KEYS: (problem.F, problem.D), VALUES: (problem.F, problem.D)}

    def own_flops(self, problem: Problem) -> int:
        of_heads = problem.K * attention_flops(problem.T, self.length, problem.F)
        return 4 * problem.T * problem.D * problem.F + of_heads

    def own_elements(self, problem: Problem) -> int:
        of_token = problem.K * (3 * problem.F + 2 * problem.D) + 2 * problem.F
        return (2 if problem.mode == "train" else 1) * problem.T * of_token

    def forward(
        self, problem: Problem, linear: RoutedLinear, x_TD: Tensor, routing: Routing, weights: Weights
    ) -> Tensor:
        from ..instruments.stage import stage  # noqa: PLC0415  # problems are made where torch is not wanted

        with stage("up"):
            q_TKF = linear(x_TD, routing, weights.w_up_EUD)
        k_T1F, v_T1F = ((x_TD @ weights.own[name].mT)[:, None] for name in (KEYS, VALUES))
        o_TKF = attention(q_TKF, k_T1F, v_T1F, self.length)
        each = routing_of(routing.ids_TK.view(-1, 1), routing.gates_TK.view(-1, 1), routing.experts)
        with stage("down"):
            rows_N1D = linear(o_TKF.flatten(0, 1), each, weights.w_down_EDF)
        with stage("combine"):
            rows_N1D = weighted(rows_N1D, each)
            return rows_N1D.view(*routing.ids_TK.shape, problem.D).sum(1).to(x_TD.dtype)

    def truth(self, problem: Problem, ids_TK: Tensor, tensors: Mapping[str, Tensor]) -> Tensor:
        x_TD = tensors["x"]
        q_TKF = true_linear(x_TD, ids_TK, tensors["w_up"])
        k_TF, v_TF = x_TD @ tensors[KEYS].T, x_TD @ tensors[VALUES].T
        y_TD = x_TD * 0
        for k in range(ids_TK.shape[1]):
            o_TF = true_attention(q_TKF[:, k], k_TF, v_TF, self.length)
            rows_TD = true_linear(o_TF, ids_TK[:, k : k + 1], tensors["w_down"])[:, 0]
            y_TD = y_TD + tensors["gates"][:, k : k + 1] * rows_TD
        return y_TD


block = MixtureOfAttentionHeads
