"""SwitchHead: attention whose heads each choose K of their experts for values, and K for outputs.

Csordás et al. 2023, "SwitchHead: Accelerating Transformers with Mixture-of-Experts Attention", section 2.2, equations 7
to 10, here causal and without positions. Queries and keys are dense; gate weights are sigmoids, ``sigmoid_topk`` with
``renormalise=false``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from ..problem import Problem
from ..problem.block import DrawsRoutes, ProjectionBlock, RoutedLinear
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
    import torch
    from torch import Tensor

    from ..problem.routing import Routing
    from ..problem.tensors import Weights

QUERIES, KEYS = "layer_queries", "layer_keys"


@dataclass(frozen=True)
class SwitchHead(ProjectionBlock, DrawsRoutes):
    """Attention of H = ``heads`` heads of width F; the E experts are those of all heads, E / H each.

    v_th = sum over k of g_thk V_e x_t and y_t = sum over h and k of g'_thk O_e' o_th, where o is the attention of a
    head over these values; V is ``w_up``, O ``w_down``. Routes are those of values, then those of outputs, each a row
    for every head and token, head by head; an expert multiplies whatever routes name it. ``length`` is the number of
    tokens of a sequence, of which the last may have fewer.
    """

    heads: int = parameter(2, least=1, most=4096)
    length: int = parameter(256, least=1, most=1 << 30)

    by_token: ClassVar[bool] = False

    def refuses(self, problem: Problem) -> str | None:
        if problem.E % self.heads:
            return f"shares E = {problem.E} experts among {self.heads} heads: give a multiple of heads"
        if problem.E // self.heads < problem.K:
            return f"has {problem.E // self.heads} experts in a head: give a smaller K than {problem.K}"
        if reason := refuses_attention(problem, self.length):
            return reason
        self._of_head(problem)  # whose router and load must fit
        return None

    def _of_head(self, problem: Problem) -> Problem:
        """Return the problem whose routes are those of one head, for the tokens of all heads and both sides."""
        return problem.replace(block="", T=2 * self.heads * problem.T, E=problem.E // self.heads)

    def core(self, problem: Problem) -> Problem:
        return problem.replace(block="", T=2 * self.heads * problem.T)

    def shapes(self, problem: Problem) -> dict[str, tuple[int, int]]:
        return dict.fromkeys((QUERIES, KEYS), (self.heads * problem.F, problem.D))

    def routes(self, problem: Problem, *, seed: int, device: torch.device) -> Routing:
        import torch  # noqa: PLC0415  # problems are made where torch is not wanted

        from ..problem.draw_routes import draw_routes  # noqa: PLC0415
        from ..problem.routing import NO_ROUTE, Routing  # noqa: PLC0415

        of_head = self._of_head(problem)
        drawn = draw_routes(of_head, seed=seed, device=device)
        first_H = torch.arange(self.heads, dtype=torch.int32, device=device) * of_head.E
        first_N1 = first_H.repeat_interleave(problem.T).repeat(2)[:, None]
        ids_NK = torch.where(drawn.ids_TK == NO_ROUTE, NO_ROUTE, drawn.ids_TK + first_N1)
        return Routing(ids_TK=ids_NK, gates_TK=drawn.gates_TK, experts=problem.E)

    def flops(self, problem: Problem, rows: float) -> int:
        """Return the FLOPs of one call; a row is of one product, of values or of outputs."""
        steps = 3 if problem.mode == "train" else 1
        return steps * (int(2 * rows * problem.D * problem.F) + self.own_flops(problem))

    def own_flops(self, problem: Problem) -> int:
        of_heads = self.heads * attention_flops(problem.T, self.length, problem.F)
        return 4 * problem.T * problem.D * self.heads * problem.F + of_heads

    def own_elements(self, problem: Problem) -> int:
        of_head = (problem.K + 4) * problem.F + 2 * problem.K * problem.D
        return (2 if problem.mode == "train" else 1) * problem.T * self.heads * of_head

    def forward(
        self, problem: Problem, linear: RoutedLinear, x_TD: Tensor, routing: Routing, weights: Weights
    ) -> Tensor:
        from ..instruments.stage import stage  # noqa: PLC0415  # problems are made where torch is not wanted

        heads, tokens, K = self.heads, len(x_TD), routing.chosen
        ids, gates = (rows.view(2, heads, tokens, K).transpose(1, 2) for rows in (routing.ids_TK, routing.gates_TK))
        of_values = routing_of(ids[0].flatten(1), gates[0].flatten(1), routing.experts)
        of_outputs = routing_of(ids[1].flatten(0, 1), gates[1].flatten(0, 1), routing.experts)
        q_THF, k_THF = ((x_TD @ weights.own[name].mT).unflatten(1, (heads, -1)) for name in (QUERIES, KEYS))
        with stage("up"):
            rows_THKF = linear(x_TD, of_values, weights.w_up_EUD)
        rows_THKF = weighted(rows_THKF, of_values).unflatten(1, (heads, K))
        o_THF = attention(q_THF, k_THF, rows_THKF.sum(2).to(x_TD.dtype), self.length)
        with stage("down"):
            rows_NKD = linear(o_THF.flatten(0, 1), of_outputs, weights.w_down_EDF)
        with stage("combine"):
            rows_NKD = weighted(rows_NKD, of_outputs)
            y_TD: Tensor = rows_NKD.unflatten(0, (tokens, heads)).sum((1, 2))
            return y_TD.to(x_TD.dtype)

    def truth(self, problem: Problem, ids_TK: Tensor, tensors: Mapping[str, Tensor]) -> Tensor:
        x_TD, heads, F = tensors["x"], self.heads, problem.F
        ids, gates = (rows.view(2, heads, problem.T, ids_TK.shape[1]) for rows in (ids_TK, tensors["gates"]))
        y_TD = x_TD * 0
        for h in range(heads):
            q_TF, k_TF = (x_TD @ tensors[name][h * F : (h + 1) * F].T for name in (QUERIES, KEYS))
            v_TF = (gates[0, h, :, :, None] * true_linear(x_TD, ids[0, h], tensors["w_up"])).sum(1)
            o_TF = true_attention(q_TF, k_TF, v_TF, self.length)
            y_TD = y_TD + (gates[1, h, :, :, None] * true_linear(o_TF, ids[1, h], tensors["w_down"])).sum(1)
        return y_TD


block = SwitchHead
