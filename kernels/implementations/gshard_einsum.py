"""GShard's dense dispatch (Lepikhin et al. 2020, algorithm 2): one-hot masks of (T, E, C) and einsums over them.

This is the classical form. Its dispatch costs 4 * T * E * C * D FLOPs a layer, which shows what index dispatch saves.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from ..config import Config
from ..kernel import Cost, Kernel, Layer
from ..problem import ELEMENT_BYTES, Problem
from ..problem.routing import NO_ROUTE, Routing, queue_positions
from ..problem.tensors import Weights
from ..steps import Step
from ..torch_ops.activations import activate
from .padded import fullest


class GShardEinsum(Kernel):
    """Dispatch and combine as matmuls with a one-hot mask."""

    family = "padded"
    drops = True

    def build(self, problem: Problem, config: Config, device: torch.device) -> Layer:
        def layer(x_TD: Tensor, routing: Routing, weights: Weights) -> Tensor:
            position_TK = queue_positions(routing, problem.drop)
            capacity = problem.capacity or fullest(routing)
            kept_TK = (routing.ids_TK != NO_ROUTE) & (position_TK < capacity)
            # Routes that are not kept go to one class more than there are experts and slots, which is cut off.
            expert_TKE = functional.one_hot(routing.ids_TK.long().where(kept_TK, problem.E), problem.E + 1)[..., :-1]
            slot_TKC = functional.one_hot(position_TK.where(kept_TK, capacity), capacity + 1)[..., :-1]
            expert_TKE, slot_TKC = expert_TKE.to(x_TD.dtype), slot_TKC.to(x_TD.dtype)
            dispatch_TEC = torch.einsum("tke,tkc->tec", expert_TKE, slot_TKC)
            gated_TKE = expert_TKE * routing.gates_TK[..., None].to(x_TD.dtype)
            combine_TEC = torch.einsum("tke,tkc->tec", gated_TKE, slot_TKC)
            x_ECD = torch.einsum("tec,td->ecd", dispatch_TEC, x_TD)
            h_ECU = torch.einsum("ecd,eud->ecu", x_ECD, weights.w_up_EUD)
            y_ECD = torch.einsum("ecf,edf->ecd", activate(problem, h_ECU), weights.w_down_EDF)
            return torch.einsum("tec,ecd->td", combine_TEC, y_ECD)

        return layer

    def cost(self, problem: Problem, config: Config, routing: Routing) -> Cost:
        capacity = problem.capacity or fullest(routing)
        rows = problem.E * capacity
        width = 2 * problem.D + problem.U + 2 * problem.F
        masks = 2 * problem.T * rows * ELEMENT_BYTES[problem.dtype]
        one_hots = problem.N * (problem.E + capacity) * (8 + ELEMENT_BYTES[problem.dtype])
        # Two masks from K one-hots each, then dispatch and combine as (rows, T) x (T, D) products.
        extra = 4 * problem.T * rows * problem.K + 4 * problem.T * rows * problem.D
        return Cost(
            executed_rows=rows,
            extra_flops=extra,
            workspace_bytes=2 * masks + one_hots + 2 * rows * width * ELEMENT_BYTES[problem.dtype],
        )

    def steps(self, problem: Problem, config: Config, routing: Routing, device: torch.device) -> Sequence[Step]:
        if device.type != "cpu":
            return ()
        from ..cost_model.cpu import fresh_bytes
        from ..cost_model.expert_rows import rows_of_experts
        from ..cost_model.torch_steps import BATCHED_PASSES, QUEUE, TorchSteps

        counts = rows_of_experts(routing)
        capacity = problem.capacity or max(counts)
        step = TorchSteps.of(problem, counts, torch.get_num_threads())
        mask = problem.T * problem.E * capacity * step.element
        times = 3 if step.training else 1
        return [
            *step.expert_mlp(
                step.routes("queue", QUEUE),
                rows=problem.E * capacity,
                matrices=problem.E,
                calls=1,
                passes=BATCHED_PASSES,
            ),
            *step.transposed_gradients(),
            # Both masks are made from one-hots, which are written as int64 and converted, and each is multiplied once.
            step.operations(
                "masks",
                20,
                flops=times * self.cost(problem, config, routing).extra_flops,
                bytes=times * (4 * mask + 3 * 8 * problem.N * (problem.E + capacity)),
                fresh=fresh_bytes(mask, mask),
            ),
        ]


kernel = GShardEinsum()
