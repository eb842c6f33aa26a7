"""Parts that implementations in Triton share: the devices they run on, and the tiles they choose from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch

from ...common.packages import Unusable, use
from ..config import Config
from ..guarantee import PROPERTIES, Guarantee, InvariantProperty
from ..hardware.device_limits import hardware
from ..kernel import Kernel
from ..problem import Problem
from ..problem.routing import Routing
from ..steps import Step
from ..triton.tiles import MOST_ACCUMULATORS, SHAPES, Shape, Tiles, tilings

ORDER_OF_SUMS = (
    "nothing is added atomically: one program sums a value of a row, in steps of one length, then splits and routes "
    "are added in their order"
)
# Specialised warps and programmatic dependent launches have been compiled and interpreted, but never run.
UNPROVEN = ("specialise", "pdl")


def _interpreted() -> bool:
    from ..triton.launch import INTERPRETED

    return INTERPRETED


try:
    INTERPRETED = use("triton", _interpreted, remedy="pip install triton")
except Unusable as error:
    MISSING = str(error)
else:
    MISSING = ""


class TritonKernel(Kernel):
    """An implementation in Triton; its space are the tiles of its grouped products.

    A configuration with ``gathered`` set reads tokens from where they are; otherwise they are copied first. ``blocked``
    says that hidden rows are stored in square blocks; ``most_accumulators`` limits the registers of a tile.
    """

    adds_biases = True
    takes_scales = True
    devices = ("cuda",)
    blocked: ClassVar[bool] = False
    most_accumulators: ClassVar[int] = MOST_ACCUMULATORS

    def supports(self, problem: Problem, device: torch.device) -> str | None:
        return runs_on(device) or self.refuses(problem) or multiplied_on(problem, device)

    def space(self, problem: Problem, device: torch.device) -> list[Config]:
        found = tilings(problem, hardware(device), self.shapes(problem), most_accumulators=self.most_accumulators)
        return [tiles.config() for tiles in found]

    def shapes(self, problem: Problem) -> list[Shape]:
        """Return the shapes of tiles to choose from."""
        return list(SHAPES[problem.dtype])

    def fault(self, problem: Problem, config: Config, device: torch.device) -> str | None:
        return Tiles.of(config).fault(problem, hardware(device))

    def unproven(self, config: Config) -> bool:
        return any(config.get(name) for name in UNPROVEN)

    def guarantee(self, problem: Problem, config: Config) -> Guarantee:
        """Return the same for every configuration: none of its values changes with the batch.

        A configuration fixes the rows, columns and steps of a tile and the number of splits. What else depends on the
        batch, which tile a row is in, where in it, and which program computes it, does not change what is added to
        what. Capacity is counted over the batch: who is dropped depends on the others.
        """
        properties: set[InvariantProperty] = {"repeat"} if problem.capacity is not None else {*PROPERTIES}
        if problem.mode == "train" and problem.bias:
            properties -= {"repeat"}  # a product of torch is in the gradient of the gate weights
        return Guarantee(frozenset(properties), ORDER_OF_SUMS if properties else "")

    def steps(self, problem: Problem, config: Config, routing: Routing, device: torch.device) -> Sequence[Step]:
        from ..cost_model.expert_rows import rows_of_experts
        from ..cost_model.gpu_launches import LayerLaunches

        call = LayerLaunches(
            problem=problem,
            tiles=Tiles.of(config),
            hardware=hardware(device),
            counts=rows_of_experts(routing),
            gathered=bool(config.get("gathered")),
            blocked=self.blocked,
        )
        return call.steps()


def runs_on(device: torch.device) -> str | None:
    """Return why Triton cannot run on a device, or None; on ``meta`` launches are only recorded."""
    if MISSING:
        return MISSING
    if device.type in ("cuda", "meta") or INTERPRETED:
        return None
    return f"Triton compiles for GPUs, not for the device {device}; TRITON_INTERPRET=1 interprets it there, slowly"


def multiplied_on(problem: Problem, device: torch.device) -> str | None:
    """Return why the hardware cannot multiply quantised weights, or None."""
    if not problem.quantised or hardware(device).float8:
        return None
    return f"the device has no such products, the problem has dtype = {problem.dtype}"


def executed_rows(problem: Problem, tiles: Tiles, counts_E: torch.Tensor) -> int:
    """Return the rows of the expert products, padding of tiles included: the mean of the products by their FLOPs."""
    products = [(problem.U, tiles.up.rows), (problem.F, tiles.down.rows)]
    if problem.mode == "train":
        step = tiles.weights.step
        products += [
            (problem.F, tiles.down_backward.rows),
            (problem.U, tiles.down.rows),
            (problem.U, step),
            (problem.F, step),
        ]
    rows = {height: int((-(-counts_E // height) * height).sum()) for _, height in products}
    return round(sum(width * rows[height] for width, height in products) / sum(width for width, _ in products))


def quantised_bytes(problem: Problem, rows: int) -> int:
    """Return the bytes of the float8 copies of the tokens and of so many hidden rows."""
    return problem.T * problem.D + rows * problem.F if problem.quantised else 0
