"""The plain baseline: for each expert, find its tokens, run it, add the rows back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from ..config import Config
from ..instruments.stage import StageName, stage
from ..kernel import Cost, Kernel, Layer
from ..problem import ELEMENT_BYTES, Problem
from ..problem.block import RoutedLinear
from ..problem.routing import Routing
from ..problem.tensors import Weights
from ..steps import Step
from ..torch_ops.activations import activate
from ..torch_ops.dispatch import by_route


class Loop(Kernel):
    """A plain loop over experts, differentiated by autograd."""

    family = "baseline"
    adds_biases = True
    takes_scales = True
    preference: ClassVar[Mapping[str, int]] = {"cpu": 30}

    def build(self, problem: Problem, config: Config, device: torch.device) -> Layer:
        def layer(x_TD: Tensor, routing: Routing, weights: Weights) -> Tensor:
            y_TD = torch.zeros_like(x_TD, dtype=torch.float32)
            # Unbinding stacks the gradients of the experts once; an index for each would make one of all experts each.
            b_up, b_down = _unbind(weights.b_up_EU, problem.E), _unbind(weights.b_down_ED, problem.E)
            s_up, s_down = _unbind(weights.s_up_EU, problem.E), _unbind(weights.s_down_ED, problem.E)
            ups = zip(weights.w_up_EUD.unbind(), s_up, b_up, strict=True)
            downs = zip(weights.w_down_EDF.unbind(), s_down, b_down, strict=True)
            for e, (up, down) in enumerate(zip(ups, downs, strict=True)):
                with stage("dispatch"):
                    token_n, k_n = torch.where(routing.ids_TK == e)
                h_nF = activate(problem, _linear("up", _gather(x_TD, token_n), *up))
                with stage("combine"):
                    y_nD = _linear("down", h_nF, *down) * routing.gates_TK[token_n, k_n, None]
                    y_TD.index_add_(0, token_n, y_nD)
            with stage("combine"):
                return y_TD.to(x_TD.dtype)

        return layer

    def routed_linear(self, problem: Problem, config: Config, device: torch.device) -> RoutedLinear:
        def linear(x_TI: Tensor, routing: Routing, w_EOI: Tensor) -> Tensor:
            routes, rows = [], []
            for e, w_OI in enumerate(w_EOI.unbind()):
                with stage("dispatch"):
                    token_n, k_n = torch.where(routing.ids_TK == e)
                    routes.append(token_n * routing.chosen + k_n)
                rows.append(functional.linear(_gather(x_TI, token_n), w_OI))
            return by_route(routing, torch.cat(routes), torch.cat(rows))

        return linear

    def cost(self, problem: Problem, config: Config, routing: Routing) -> Cost:
        counts = routing.counts_E()
        kept, fullest = int(counts.sum()), int(counts.max())
        # In training autograd keeps every expert's rows; in inference only the fullest expert's live at once.
        rows = kept if problem.mode == "train" else fullest
        row_bytes = (2 * problem.D + problem.U + 2 * problem.F) * ELEMENT_BYTES[problem.dtype] + 4 * problem.D
        workspace = rows * row_bytes + 2 * problem.T * problem.D * 4
        if problem.mode == "train":
            # At the end of the backward the rows are freed, but all gradients of the up projections exist twice.
            workspace = max(workspace, problem.E * problem.U * problem.D * ELEMENT_BYTES[problem.dtype])
        if problem.quantised:
            workspace += problem.D * (problem.U + problem.F) * ELEMENT_BYTES[problem.dtype]
        return Cost(executed_rows=kept, workspace_bytes=workspace)

    def steps(self, problem: Problem, config: Config, routing: Routing, device: torch.device) -> Sequence[Step]:
        if device.type != "cpu":
            return ()
        from ..cost_model.expert_rows import rows_of_experts
        from ..cost_model.loop_steps import loop_steps

        return loop_steps(problem, rows_of_experts(routing), torch.get_num_threads())


def _unbind(vectors: Tensor | None, experts: int) -> Sequence[Tensor | None]:
    return [None] * experts if vectors is None else vectors.unbind()


def _gather(x_TD: Tensor, token_n: Tensor) -> Tensor:
    with stage("dispatch"):
        return x_TD[token_n]


def _linear(product: StageName, x_nK: Tensor, w_MK: Tensor, scale_M: Tensor | None, bias_M: Tensor | None) -> Tensor:
    """Multiply in the dtype of the tokens, to which a weight with scales is converted first."""
    with stage(product):
        if scale_M is not None:
            w_MK = w_MK.to(x_nK.dtype).mul_(scale_M[:, None])
        return functional.linear(x_nK, w_MK, bias_M)


kernel = Loop()
