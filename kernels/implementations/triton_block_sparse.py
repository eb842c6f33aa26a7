"""MegaBlocks' method (Gale et al. 2022) in Triton: the hidden activation as a block-sparse matrix, nothing dropped.

Tokens are copied into a buffer where the rows of every expert are rounded up to blocks of B rows. The first product
samples the nonzero blocks of x W_up^T, with the activation in its epilogue; the second multiplies the blocks by W_down.
The gradients of the weights sum the blocks of a column by transposed indices. The host knows a bound on the blocks, so
nothing waits for the device.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch

from ..config import Config
from ..hardware.device_limits import hardware
from ..kernel import Cost, Layer
from ..problem import ELEMENT_BYTES, Problem
from ..problem.routing import Routing
from ..triton.permutation import Blocked
from ..triton.tiles import Shape, Tiles
from ._triton import TritonKernel, executed_rows


class TritonBlockSparse(TritonKernel):
    """Block-sparse products with blocks as high as the row tiles."""

    family = "block_sparse"
    takes_scales = False
    preference: ClassVar[Mapping[str, int]] = {"cuda": 30}
    blocked = True
    most_accumulators = 64  # addresses inside blocks take registers too; with 128 it spills

    def refuses(self, problem: Problem) -> str | None:
        if not self.shapes(problem):
            sides = ", ".join(map(str, sorted({side for side, *_ in super().shapes(problem)})))
            return f"needs a block side of {sides} that divides F = {problem.F}"
        return super().refuses(problem)

    def shapes(self, problem: Problem) -> list[Shape]:
        """Return the shapes whose height divides the hidden width."""
        return [shape for shape in super().shapes(problem) if problem.F % shape[0] == 0]

    def fault(self, problem: Problem, config: Config, device: torch.device) -> str | None:
        tiles = Tiles.of(config)
        block = tiles.up.rows
        if problem.F % block:
            return f"blocks of side {block} do not divide F = {problem.F}"
        if tiles.heights(problem) != (block,):
            return f"blocks have one side, the tiles have {', '.join(map(str, tiles.heights(problem)))} rows"
        return super().fault(problem, config, device)

    def space(self, problem: Problem, device: torch.device) -> list[Config]:
        return [config for config in super().space(problem, device) if len(Tiles.of(config).heights(problem)) == 1]

    def build(self, problem: Problem, config: Config, device: torch.device) -> Layer:
        from ..triton.block_products import BlockPlan

        tiles = Tiles.of(config)
        return BlockPlan(
            problem=problem,
            tiles=tiles,
            hardware=hardware(device),
            layout=Blocked(block=tiles.up.rows),
            gathered=False,
            scatter=False,
        )

    def cost(self, problem: Problem, config: Config, routing: Routing) -> Cost:
        width = problem.F + 2 * problem.D
        if problem.mode == "train":
            width = 2 * problem.U + problem.F + 2 * problem.D
        tiles = Tiles.of(config)
        rows = Blocked(block=tiles.up.rows).rows(problem.N, problem.E, max(1, problem.N))
        return Cost(
            executed_rows=executed_rows(problem, tiles, routing.counts_E()),
            workspace_bytes=rows * width * ELEMENT_BYTES[problem.dtype],
        )


kernel = TritonBlockSparse()
