"""MegaBlocks' method (Gale et al. 2022): the hidden activation as a block-sparse matrix, nothing dropped.

Rows are grouped by expert and padded to blocks of B rows rather than to the fullest expert.
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
from ..problem.routing import Groups, Routing, group_by_expert
from ..problem.tensors import Weights
from ..steps import Step
from ..torch_ops.activations import ACTIVATIONS, gated
from ..torch_ops.dispatch import Places, combine, dispatch
from ..torch_ops.sparse_matmul import SparseTopology, sample_product, sparse_product

BLOCKS = (16, 32, 64, 128)  # MegaBlocks takes 128; smaller ones pad less and multiply more slowly
VIEWS = 12  # of the operands of a block row's two products, and the copies of its blocks
LARGEST_DEFAULT = 64  # in plain torch, blocks of 128 took longer at every shape that was tried


class BlockSparse(Kernel):
    """Block-sparse products with blocks of side ``block``."""

    family = "block_sparse"
    preference: ClassVar[Mapping[str, int]] = {"cpu": 40}

    def refuses(self, problem: Problem) -> str | None:
        if all(problem.F % block for block in BLOCKS):
            return f"needs a block side of {', '.join(map(str, BLOCKS))} that divides F = {problem.F}"
        return super().refuses(problem)

    def space(self, problem: Problem, device: torch.device) -> list[Config]:
        """Return the block sides; the default is a quarter of an expert's mean rows: padding adds about an eighth."""
        sides = [block for block in BLOCKS if problem.F % block == 0]
        fitting = [block for block in sides if block <= min(LARGEST_DEFAULT, problem.N / problem.E / 4)]
        default = fitting[-1] if fitting else sides[0]
        return [{"block": block} for block in (default, *(side for side in sides if side != default))]

    def fault(self, problem: Problem, config: Config, device: torch.device) -> str | None:
        block = int(config["block"])
        return f"blocks of side {block} do not divide F = {problem.F}" if problem.F % block else None

    def build(self, problem: Problem, config: Config, device: torch.device) -> Layer:
        block = int(config["block"])

        def layer(x_TD: Tensor, routing: Routing, weights: Weights) -> Tensor:
            with stage("dispatch"):
                groups = group_by_expert(routing)
                topology = SparseTopology.of(groups.counts, hidden=problem.F, block=block)
                # Gate and up columns of a row are side by side in one block-sparse matrix.
                up_topology = SparseTopology.of(groups.counts, hidden=problem.U, block=block)
                places = padded_places(routing, groups, block)
            with stage("up"):
                values = sample_product(up_topology, dispatch(x_TD, places), weights.w_up_EUD)
            halves = (topology.rows // block, problem.U // problem.F, problem.F // block, block, block)
            with stage("activation"):
                hidden = _activate(problem, values.view(halves))
            with stage("down"):
                y_PD = sparse_product(topology, hidden, weights.w_down_EDF.transpose(1, 2))
            return combine(y_PD, routing.gates_TK, places)

        return layer

    def cost(self, problem: Problem, config: Config, routing: Routing) -> Cost:
        block = int(config["block"])
        rows = int((-(-routing.counts_E() // block) * block).sum())
        width = 2 * problem.D + problem.U + 2 * problem.F
        if problem.mode == "train":
            width += problem.U + problem.F
        return Cost(
            executed_rows=rows, workspace_bytes=(rows * width + problem.T * problem.D) * ELEMENT_BYTES[problem.dtype]
        )

    def steps(self, problem: Problem, config: Config, routing: Routing, device: torch.device) -> Sequence[Step]:
        if device.type != "cpu":
            return ()
        from ..cost_model.expert_rows import rows_of_experts
        from ..cost_model.torch_steps import MM_CALLS, PLACES, SORT, TorchSteps

        block, counts = int(config["block"]), rows_of_experts(routing)
        blocks = sum(-(-count // block) for count in counts)
        step = TorchSteps.of(problem, counts, torch.get_num_threads())
        # The weights of an expert pass for every block row; its blocks are copied after one product, before the other.
        copied = 2 * blocks * block * (problem.U + problem.F) * step.element
        return [
            *step.expert_mlp(
                step.routes("group", SORT, PLACES),
                rows=blocks * block,
                matrices=blocks,
                calls=MM_CALLS * blocks,
                passes=step.most_passes,
            ),
            step.operations("blocks", VIEWS * blocks, bytes=copied * (3 if step.training else 1)),
        ]


def _activate(problem: Problem, values: Tensor) -> Tensor:
    """Apply the activation to blocks (rows, 2 when gated else 1, columns, B, B): (rows * columns, B, B)."""
    halves = values.unbind(1)
    hidden = gated(problem.activation, *halves) if problem.gated else ACTIVATIONS[problem.activation](halves[0])
    return hidden.flatten(0, 1)


def padded_places(routing: Routing, groups: Groups, block: int) -> Places:
    """Return the positions of the routes when the rows of every expert are rounded up to whole blocks."""
    device, kept = routing.ids_TK.device, groups.route_N.numel()
    counts_E = torch.tensor(groups.counts, device=device)
    padding_E = -counts_E % block
    before_E = torch.cumsum(padding_E, 0) - padding_E
    row_N = torch.arange(kept, device=device) + before_E.repeat_interleave(counts_E, output_size=kept)
    return Places.of(routing, route_n=groups.route_N, row_n=row_N, rows=kept + int(padding_E.sum()))


kernel = BlockSparse()
