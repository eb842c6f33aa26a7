"""Buffers of a fixed capacity for every expert in Triton (GShard, Lepikhin et al. 2020), empty tiles skipped.

The host knows the capacity, so nothing waits for the device. Dropless problems have no capacity, and are refused.
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
from ..triton.permutation import Capacity
from ..triton.tiles import Tiles
from ._triton import TritonKernel, executed_rows, quantised_bytes


class TritonPadded(TritonKernel):
    """A copy of the tokens into (E, C, D), products tile by tile, and a gather back by slot."""

    family = "padded"
    drops = True
    preference: ClassVar[Mapping[str, int]] = {"cuda": 20}

    def refuses(self, problem: Problem) -> str | None:
        if problem.capacity is None:
            return f"pads to a capacity, the problem has capacity_factor = {problem.capacity_factor}"
        return super().refuses(problem)

    def build(self, problem: Problem, config: Config, device: torch.device) -> Layer:
        from ..triton.expert_mlp import LayerPlan

        return LayerPlan(
            problem=problem,
            tiles=Tiles.of(config),
            hardware=hardware(device),
            layout=Capacity(capacity=_capacity(problem)),
            gathered=False,
            scatter=False,
        )

    def cost(self, problem: Problem, config: Config, routing: Routing) -> Cost:
        width = problem.F + 2 * problem.D
        if problem.mode == "train":
            width = 2 * problem.U + problem.F + 2 * problem.D
        rows = problem.E * _capacity(problem)
        return Cost(
            executed_rows=executed_rows(problem, Tiles.of(config), routing.counts_E()),
            workspace_bytes=rows * width * ELEMENT_BYTES[problem.dtype] + quantised_bytes(problem, rows),
        )


def _capacity(problem: Problem) -> int:
    if problem.capacity is None:
        raise ValueError(f"{problem.key} is dropless: give it a capacity_factor")
    return problem.capacity


kernel = TritonPadded()
