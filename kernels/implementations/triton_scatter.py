"""ScatterMoE's method (Tan et al. 2024) in Triton: tokens gathered by the first product, rows scattered by the second.

Two choices are tuned. First, the first product gathers its tokens, or they are copied to their rows before it, so
that both of its operands come by tensor descriptor and the copies of the next tile run during an epilogue. Second, the
second product scatters its rows to their routes, or stores them in expert order, and the sum over a token's routes
gathers them (SonicMoE, Guo et al. 2025, found the latter faster).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

import torch

from ..config import Config
from ..hardware.device_limits import hardware
from ..kernel import Cost, Layer
from ..problem import ELEMENT_BYTES, Problem
from ..problem.block import RoutedLinear
from ..problem.routing import Routing
from ..triton.permutation import COMPACT
from ..triton.tiles import Tiles
from ._triton import TritonKernel, executed_rows, quantised_bytes

if TYPE_CHECKING:
    from ..triton.expert_mlp import LayerPlan

COPY_PAYS = 5  # a copy of 4 D bytes for each row pays where the first product has at least so many times D columns


class TritonScatter(TritonKernel):
    """Grouped products between which the rows of an expert are contiguous, without padding."""

    family = "scatter"
    drops = True
    preference: ClassVar[Mapping[str, int]] = {"cuda": 10}

    def space(self, problem: Problem, device: torch.device) -> list[Config]:
        found: list[Config] = []
        for tiles in super().space(problem, device):
            copies = bool(tiles["persistent"])  # the gain of a copy is in the persistent loop
            copied = copies and problem.U >= COPY_PAYS * problem.D
            for gathered in dict.fromkeys((not copied, True, not copies)):
                found += [{**tiles, "gathered": gathered, "scatter": scatter} for scatter in (False, True)]
        return found

    def build(self, problem: Problem, config: Config, device: torch.device) -> Layer:
        return self.build_split(problem, config, device)

    def build_split(self, problem: Problem, config: Config, device: torch.device) -> LayerPlan:
        from ..triton.expert_mlp import LayerPlan

        return LayerPlan(
            problem=problem,
            tiles=Tiles.of(config),
            hardware=hardware(device),
            layout=COMPACT,
            gathered=bool(config["gathered"]),
            scatter=bool(config["scatter"]),
        )

    def routed_linear(self, problem: Problem, config: Config, device: torch.device) -> RoutedLinear:
        from ..triton.expert_mlp import RoutedProducts

        return RoutedProducts(
            problem=problem,
            tiles=Tiles.of(config),
            hardware=hardware(device),
            gathered=bool(config["gathered"]),
        )

    def cost(self, problem: Problem, config: Config, routing: Routing) -> Cost:
        width = problem.F + problem.D
        if problem.mode == "train":
            width = 2 * problem.U + problem.F + problem.D
        if not config["gathered"]:
            width += problem.D
        rows_bytes = problem.N * width * ELEMENT_BYTES[problem.dtype]
        return Cost(
            executed_rows=executed_rows(problem, Tiles.of(config), routing.counts_E()),
            workspace_bytes=rows_bytes + quantised_bytes(problem, problem.N),
        )


kernel = TritonScatter()
