"""Buffers of a fixed capacity for every expert, batched products, dropped rows (Switch, GShard with index dispatch).

Dropless problems are padded to the fullest expert, which is what Tutel calls dynamic capacity.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor

from ..config import Config
from ..kernel import Cost, Kernel, Layer
from ..problem import ELEMENT_BYTES, Problem
from ..problem.routing import NO_ROUTE, Routing, queue_positions
from ..problem.tensors import Weights
from ..steps import Step
from ..torch_ops.activations import activate
from ..torch_ops.dispatch import Places, combine, dispatch


class Padded(Kernel):
    """A copy of the rows into (E, C, D), batched products, and a gather back by slot."""

    family = "padded"
    drops = True
    preference: ClassVar[Mapping[str, int]] = {"cpu": 50, "cuda": 60}

    def build(self, problem: Problem, config: Config, device: torch.device) -> Layer:
        def layer(x_TD: Tensor, routing: Routing, weights: Weights) -> Tensor:
            position_TK = queue_positions(routing, problem.drop)
            capacity = problem.capacity or fullest(routing)
            kept_TK = (routing.ids_TK != NO_ROUTE) & (position_TK < capacity)
            row_n = (routing.ids_TK * capacity + position_TK)[kept_TK]
            route_n = kept_TK.flatten().nonzero()[:, 0]
            places = Places.of(routing, route_n=route_n, row_n=row_n, rows=problem.E * capacity)
            x_ECD = dispatch(x_TD, places).view(problem.E, capacity, problem.D)
            h_ECU = torch.bmm(x_ECD, weights.w_up_EUD.transpose(1, 2))
            y_ECD = torch.bmm(activate(problem, h_ECU), weights.w_down_EDF.transpose(1, 2))
            return combine(y_ECD.flatten(0, 1), routing.gates_TK, places)

        return layer

    def cost(self, problem: Problem, config: Config, routing: Routing) -> Cost:
        rows = problem.E * (problem.capacity or fullest(routing))
        width = 2 * problem.D + problem.U + 2 * problem.F
        if problem.mode == "train":
            width += problem.D + problem.U + problem.F
        return Cost(executed_rows=rows, workspace_bytes=rows * width * ELEMENT_BYTES[problem.dtype])

    def steps(self, problem: Problem, config: Config, routing: Routing, device: torch.device) -> Sequence[Step]:
        if device.type != "cpu":
            return ()
        from ..cost_model.expert_rows import rows_of_experts
        from ..cost_model.torch_steps import BATCHED_PASSES, PLACES, QUEUE, TorchSteps

        counts = rows_of_experts(routing)
        step = TorchSteps.of(problem, counts, torch.get_num_threads())
        return [
            *step.expert_mlp(
                step.routes("queue", QUEUE, PLACES),
                rows=problem.E * (problem.capacity or max(counts)),
                matrices=problem.E,
                calls=1,
                passes=BATCHED_PASSES,
            ),
            *step.transposed_gradients(),
        ]


def fullest(routing: Routing) -> int:
    """Return the number of rows of the fullest expert."""
    return int(routing.counts_E().max())


kernel = Padded()
