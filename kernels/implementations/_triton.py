"""What the implementations in Triton share: where they run, and the tiles they choose from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch

from ..gpu.hardware import hardware
from ..gpu.tiles import SHAPES, Shape, Tiles, tilings
from ..kernel import Config, Kernel, one_rank
from ..optional import Unusable, use
from ..problem import Problem
from ..routing import Routing
from ..steps import Step


def _interpreted() -> bool:
    from ..gpu.launch import INTERPRETED

    return INTERPRETED


try:
    INTERPRETED = use("triton", _interpreted, remedy="pip install triton")
except Unusable as error:
    MISSING = str(error)
else:
    MISSING = ""


class TritonKernel(Kernel):
    """Tiles of the grouped product are the space.

    ``gathered``: tokens are read where they are, else they are copied. ``blocked``: hidden rows stand in square blocks.
    """

    gathered: ClassVar[bool] = False
    blocked: ClassVar[bool] = False

    def supports(self, problem: Problem, device: torch.device) -> str | None:
        return runs_on(device) or one_rank(problem) or multiplied_on(problem, device)

    def space(self, problem: Problem, device: torch.device) -> list[Config]:
        return [tiles.config() for tiles in tilings(problem, hardware(device), self.shapes(problem))]

    def shapes(self, problem: Problem) -> list[Shape]:
        """The shapes of tiles to choose from."""
        return list(SHAPES[problem.dtype])

    def fault(self, problem: Problem, config: Config, device: torch.device) -> str | None:
        return Tiles.of(config).fault(problem, hardware(device))

    def steps(self, problem: Problem, config: Config, routing: Routing, device: torch.device) -> Sequence[Step]:
        from ..gpu.traffic import Call, rows_of_experts

        call = Call(
            problem=problem,
            tiles=Tiles.of(config),
            hardware=hardware(device),
            counts=rows_of_experts(routing),
            gathered=self.gathered,
            blocked=self.blocked,
        )
        return call.steps()


def runs_on(device: torch.device) -> str | None:
    """The refusal of a device that Triton has no code for; ``meta`` is for recording launches."""
    if MISSING:
        return MISSING
    if device.type in ("cuda", "meta") or INTERPRETED:
        return None
    return f"Triton compiles for GPUs, not for the device {device}; TRITON_INTERPRET=1 interprets it there, slowly"


def multiplied_on(problem: Problem, device: torch.device) -> str | None:
    """The refusal of quantised weights where the hardware has no products of them."""
    if not problem.quantised or hardware(device).float8:
        return None
    return f"the device has no such products, the problem has dtype = {problem.dtype}"


def tile_rows(counts_E: torch.Tensor, block: int) -> int:
    """Rows of all tiles, those that only pad included."""
    return int((-(-counts_E // block) * block).sum())


def quantised_bytes(problem: Problem, rows: int) -> int:
    """Bytes of the tokens and of so many hidden rows in float8, beside those that they are rounded from."""
    return problem.T * problem.D + rows * problem.F if problem.quantised else 0
