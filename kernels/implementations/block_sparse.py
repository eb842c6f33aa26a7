"""MegaBlocks' idea (Gale et al. 2022): the hidden activation as a block-sparse matrix, nothing dropped.

Rows are grouped by expert and padded to blocks of B rows rather than to the fullest expert.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..activations import ACTIVATIONS
from ..block_sparse_ops import Topology, sample_product, sparse_product
from ..dispatch import Places, combine, dispatch, with_nobody
from ..kernel import Config, Cost, Kernel, Layer
from ..problem import ELEMENT_BYTES, Problem
from ..routing import Routing, group_by_expert
from ..tensors import Weights

BLOCKS = (64, 128, 32, 16)  # MegaBlocks takes 128; smaller ones pad less and multiply more slowly


class BlockSparse(Kernel):
    """Block-sparse products with blocks of side ``block``."""

    family = "block_sparse"

    def supports(self, problem: Problem, device: torch.device) -> str | None:
        if all(problem.F % block for block in BLOCKS):
            return f"needs a block side of {', '.join(map(str, sorted(BLOCKS)))} that divides F = {problem.F}"
        return super().supports(problem, device)

    def space(self, problem: Problem, device: torch.device) -> list[Config]:
        return [{"block": block} for block in BLOCKS if problem.F % block == 0]

    def valid(self, problem: Problem, config: Config, device: torch.device) -> bool:
        return problem.F % int(config["block"]) == 0

    def build(self, problem: Problem, config: Config, device: torch.device) -> Layer:
        block = int(config["block"])

        def layer(x_TD: Tensor, routing: Routing, weights: Weights) -> Tensor:
            layout = Layout.of(routing, hidden=problem.F, block=block)
            operands = (x_TD, routing.gates_TK, weights.w_up_EUD, weights.w_down_EDF)
            if torch.is_grad_enabled() and any(operand.requires_grad for operand in operands):
                y_PD = _experts(problem, layout.topology, dispatch(x_TD, layout.places), weights)
            else:
                y_PD = _bands_in_turn(problem, layout, x_TD, weights)
            return combine(y_PD, routing.gates_TK, layout.places)

        return layer

    def cost(self, problem: Problem, routing: Routing) -> Cost:
        """With blocks of the default side."""
        block = int(self.space(problem, routing.ids_TK.device)[0]["block"])
        rows_E = -(-routing.counts_E() // block) * block
        rows, fullest = int(rows_E.sum()), int(rows_E.max())
        D, U, F = problem.D, problem.U, problem.F
        if problem.mode == "forward":
            elements = (problem.T + rows) * D + fullest * (2 * D + U + 3 * F)
        else:
            elements = rows * (2 * D + U + (4 if problem.gated else 2) * F)
        return Cost(executed_rows=rows, workspace_bytes=elements * ELEMENT_BYTES[problem.dtype])


def _experts(problem: Problem, topology: Topology, rows_PD: Tensor, weights: Weights) -> Tensor:
    """All experts on padded rows: (P, D) to (P, D)."""
    gate, *up = sample_product(topology, rows_PD, weights.w_up_EUD)
    hidden = ACTIVATIONS[problem.activation](gate)
    if up:
        hidden = hidden * up[0]
    return sparse_product(topology, hidden, weights.w_down_EDF.transpose(1, 2))


def _bands_in_turn(problem: Problem, layout: Layout, x_TD: Tensor, weights: Weights) -> Tensor:
    """`_experts` without a backward: the rows and blocks of one expert at a time, in memory that is used again."""
    y_PD = x_TD.new_empty(layout.topology.rows, problem.D)
    x_with_nobody = with_nobody(x_TD)
    for band in layout.topology.bands:
        rows_nD = x_with_nobody.index_select(0, layout.places.token_M[band.rows])
        y_PD[band.rows] = _experts(problem, layout.topology.alone(band), rows_nD, weights)
    return y_PD


@dataclass(frozen=True, kw_only=True)
class Layout:
    """The topology of a routing, and where its routes stand among the padded rows."""

    topology: Topology
    places: Places

    @staticmethod
    def of(routing: Routing, *, hidden: int, block: int) -> Layout:
        groups = group_by_expert(routing)
        topology = Topology.of(groups.counts, hidden=hidden, block=block)
        device, kept = routing.ids_TK.device, groups.route_N.numel()
        counts_E = torch.tensor(groups.counts, device=device)
        padding_E = -counts_E % block
        before_E = torch.cumsum(padding_E, 0) - padding_E
        row_N = torch.arange(kept, device=device) + before_E.repeat_interleave(counts_E, output_size=kept)
        places = Places.of(routing, route_n=groups.route_N, row_n=row_N, rows=topology.rows)
        return Layout(topology=topology, places=places)


kernel = BlockSparse()
