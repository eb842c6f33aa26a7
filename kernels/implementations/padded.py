"""Buffers of a fixed capacity for every expert, batched products, dropped rows (Switch, GShard with index dispatch).

Dropless problems are padded to the fullest expert, which is what Tutel calls dynamic capacity.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor

from ..config import Config
from ..instruments.stage import stage
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
            with stage("dispatch"):
                position_TK = queue_positions(routing, problem.drop)
                capacity = problem.capacity or fullest(routing)
                kept_TK = (routing.ids_TK != NO_ROUTE) & (position_TK < capacity)
                places = places_of(routing, kept_TK, position_TK, problem.E, capacity)
            rows_MD = multiply(problem, dispatch(x_TD, places), weights, places)
            return combine(rows_MD, routing.gates_TK, places)

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
        from ..cost_model.torch_steps import PLACES, QUEUE, TorchSteps, batched_passes

        counts = rows_of_experts(routing)
        step, rows = TorchSteps.of(problem, counts, torch.get_num_threads()), problem.capacity or max(counts)
        return [
            *step.expert_mlp(
                step.routes("queue", QUEUE, PLACES),
                rows=problem.E * rows,
                matrices=problem.E,
                calls=1,
                passes=batched_passes(rows),
            ),
            *step.transposed_gradients(),
        ]


def places_of(routing: Routing, kept_TK: Tensor, position_TK: Tensor, experts: int, capacity: int) -> Places:
    """Return the positions of the kept routes among E * C rows, by their positions in the queues of their experts."""
    slot_TK = torch.where(kept_TK, routing.ids_TK * capacity + position_TK, NO_ROUTE)
    return Places.at(slot_TK, rows=experts * capacity)


def multiply(problem: Problem, x_MD: Tensor, weights: Weights, places: Places) -> Tensor:
    """Compute the experts of buffers (E * C, D), whose first row is filled unless nobody chose the expert.

    The hidden rows of an expert that nobody chose are set to zero: its weights may hold NaN, of which neither a result
    nor a gradient may come.
    """
    x_ECD = x_MD.unflatten(0, (problem.E, -1)) if len(x_MD) else x_MD.view(problem.E, 0, problem.D)
    with stage("up"):
        h_ECU = torch.bmm(x_ECD, weights.w_up_EUD.transpose(1, 2))
        unused_E = places.token_M.view(problem.E, -1)[:, :1].eq(places.slot_TK.shape[0]) if len(x_MD) else None
        if unused_E is not None and (unused_E.device.type != "cpu" or bool(unused_E.any())):
            h_ECU = h_ECU.masked_fill_(unused_E[:, :, None], 0)
    with stage("down"):
        return torch.bmm(activate(problem, h_ECU), weights.w_down_EDF.transpose(1, 2)).flatten(0, 1)


def fullest(routing: Routing) -> int:
    """Return the number of rows of the fullest expert."""
    return int(routing.counts_E().max())


kernel = Padded()
