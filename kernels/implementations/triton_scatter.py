"""ScatterMoE's idea (Tan et al. 2024) in Triton: tokens gathered by the first product, rows scattered by the second.

No padded and no grouped copy of the tokens. Whether the second product stores its rows by route, or where they stand
for the sum over a token's routes to gather, is a choice to tune (SonicMoE, Guo et al. 2025, found the latter faster).
"""

from __future__ import annotations

import torch

from ..gpu.hardware import hardware
from ..gpu.order import COMPACT
from ..gpu.tiles import Tiles
from ..kernel import Config, Cost, Layer
from ..problem import ELEMENT_BYTES, Problem
from ..routing import Routing
from ._triton import TritonKernel, quantised_bytes, tile_rows


class TritonScatter(TritonKernel):
    """Rows of an expert stand together between the products, without a gap."""

    family = "scatter"
    gathered = True

    def space(self, problem: Problem, device: torch.device) -> list[Config]:
        tilings = super().space(problem, device)
        return [{**tiles, "scatter": scatter} for scatter in (False, True) for tiles in tilings]

    def build(self, problem: Problem, config: Config, device: torch.device) -> Layer:
        from ..gpu.experts import Plan

        return Plan(
            problem=problem,
            tiles=Tiles.of(config),
            hardware=hardware(device),
            layout=COMPACT,
            gathered=self.gathered,
            scatter=bool(config["scatter"]),
        )

    def cost(self, problem: Problem, config: Config, routing: Routing) -> Cost:
        width = problem.F + problem.D
        if problem.mode == "train":
            width = 2 * problem.U + problem.F + problem.D
        rows_bytes = problem.N * width * ELEMENT_BYTES[problem.dtype]
        return Cost(
            executed_rows=tile_rows(routing.counts_E(), Tiles.of(config).block_m),
            workspace_bytes=rows_bytes + quantised_bytes(problem, problem.N),
        )


kernel = TritonScatter()
