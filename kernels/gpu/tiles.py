"""How the grouped product is cut into tiles: the tunable part of every Triton implementation."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from ..kernel import Config
from ..problem import ELEMENT_BYTES, Problem
from .hardware import Hardware

SMALLEST = 16  # the least side that a product of tiles may have
DESCRIPTOR_BYTES = 16  # tensor descriptors want strides in multiples of this
FEW_ROWS = 32  # of an expert: its weights are the traffic, and one column tile has too few programs to ask for them
SPLITS = (1, 2, 4)
LONGEST_STEP = 64
BUSY = 2  # programs a processor that keep enough loads of weights under way
LARGEST_TILE = 128 * 256
LARGEST_OLD_TILE = 128 * 128  # where products accumulate in the registers of fewer warps, more would spill
# Seen in compiled code, in powers of two above the largest.
BARRIER_BYTES = 8 << 10  # barriers of the copies, and the routes of gathered rows on their way to registers
HANDED_BYTES = 16 << 10  # of results that specialised warps hand over at a time
TF32_PARTS = 3  # buffers that specialised warps keep the parts of operands in

Shape = tuple[int, int, int, int]
"""Rows, columns, step, warps."""

# Higher ones later.
HALF_SHAPES: tuple[Shape, ...] = (
    (16, 64, 128, 4),
    (16, 128, 128, 4),
    (32, 128, 128, 4),
    (64, 128, 64, 4),
    (64, 256, 64, 8),
    (128, 128, 64, 4),
    (128, 128, 64, 8),
    (128, 256, 64, 8),
)
# Without tensor cores a step of 32 holds so much of both operands in registers that the larger tiles spill.
FLOAT_SHAPES: tuple[Shape, ...] = (
    (16, 64, 32, 4),
    (32, 64, 32, 4),
    (64, 64, 32, 8),
    (64, 128, 32, 8),
    (64, 128, 16, 8),
)
# As many bytes in a step as with twice the element.
FLOAT8_SHAPES: tuple[Shape, ...] = tuple((m, n, 2 * k, warps) for m, n, k, warps in HALF_SHAPES)
SHAPES = {"float32": FLOAT_SHAPES, "float16": HALF_SHAPES, "bfloat16": HALF_SHAPES, "float8_e4m3fn": FLOAT8_SHAPES}
# Three TF32 products have the error of one in float32; a single one has not.
PRECISIONS = {"float32": ("ieee", "tf32x3"), "float16": ("ieee",), "bfloat16": ("ieee",), "float8_e4m3fn": ("ieee",)}


@dataclass(frozen=True, kw_only=True)
class Tiles:
    """One choice for all products of a layer.

    A program computes ``block_m`` rows by ``block_n`` columns in steps of ``block_k``, or ``block_w`` by ``block_w`` of
    a weight's gradient; ``group_m`` row tiles share their weights in L2. ``warps`` and ``stages`` (of software
    pipelining) are Triton's. ``descriptors``: tiles of weights and of rows that stand together are copied by tensor
    descriptor. ``persistent`` programs a processor take tile after tile; 0 means one program for each tile.
    ``specialise``: some warps copy while others multiply. The contraction of the down projection is shared by
    ``split_k`` programs. ``precision`` is that of float32 products.
    """

    block_m: int
    block_n: int
    block_k: int
    block_w: int = 128
    group_m: int = 8
    warps: int = 4
    stages: int = 3
    descriptors: bool = False
    persistent: int = 0
    specialise: bool = False
    split_k: int = 1
    precision: str = "ieee"

    @property
    def step_w(self) -> int:
        """Rows of one step of a weight's gradient: more would not fit the registers beside its tile."""
        return min(self.block_k, LONGEST_STEP)

    @staticmethod
    def of(config: Config) -> Tiles:
        """The tiles in a configuration, which may hold more than them."""
        names = {field.name for field in dataclasses.fields(Tiles)}
        return Tiles(**{name: value for name, value in config.items() if name in names})  # type: ignore[arg-type]

    def config(self) -> dict[str, int | float | str | bool]:
        """As a configuration."""
        return dataclasses.asdict(self)

    def shared_bytes(self, problem: Problem, hardware: Hardware) -> int:
        """Shared memory of the largest product: its buffers of both operands, or the tile on its way to memory.

        At least what Triton 3.6 and 3.9 take. Without tensor descriptors it is what they take; with them up to one
        buffer less, because products of few rows and of float32 pass through registers there too.
        """
        element = ELEMENT_BYTES[problem.dtype]
        shapes = [(self.block_m, self.block_n, self.block_k)]
        if problem.mode == "train":
            shapes.append((self.block_w, self.block_w, self.step_w))
        # Older products pass through registers, and free their buffer before they start.
        buffers = self.stages if hardware.tensor_descriptors else max(1, self.stages - 1)
        if self.specialise and problem.dtype == "float32":
            buffers += TF32_PARTS
        most = max(max(buffers * (m + n) * k * problem.operand_bytes, m * n * element) for m, n, k in shapes)
        handed = min(self.block_m * self.block_n * element, HANDED_BYTES) if self.specialise else 0
        return most + handed + (BARRIER_BYTES if hardware.maker == "nvidia" else 0)

    def fault(self, problem: Problem, hardware: Hardware) -> str | None:
        """None, or why these tiles cannot be built for a problem on a device."""
        needed = self.shared_bytes(problem, hardware)
        step = DESCRIPTOR_BYTES // problem.operand_bytes
        faults = (
            (needed > hardware.shared_bytes, f"needs {needed} bytes of shared memory of {hardware.shared_bytes}"),
            (self.precision != "ieee" and hardware.maker != "nvidia", f"the device has no {self.precision} products"),
            (self.descriptors and not hardware.tensor_descriptors, "the device has no tensor descriptors"),
            (
                self.descriptors and (problem.D % step or problem.F % step),
                f"tensor descriptors want widths in multiples of {step}: D = {problem.D}, F = {problem.F}",
            ),
            (
                self.specialise and not (self.descriptors and self.persistent),
                "specialised warps copy by tensor descriptor, in a persistent program",
            ),
            (
                self.specialise and self.block_m * self.block_n > hardware.specialised_tile,
                f"the device specialises the warps of tiles of up to {hardware.specialised_tile} elements",
            ),
        )
        return next((reason for broken, reason in faults if broken), None)


def tilings(problem: Problem, hardware: Hardware, shapes: Sequence[Shape]) -> list[Tiles]:
    """The choices of some ``shapes`` that are worth trying for a problem on a device, the default first.

    `Tiles.fault` says which can be built.
    """
    default = _default(problem, hardware, shapes)
    found = [default]
    modes = [(False, 0, False), (True, 0, False), (True, 1, False), (True, 2, False), (True, 1, True)]
    for block_m, block_n, block_k, warps in shapes:
        for stages, (descriptors, persistent, specialise) in itertools.product((2, 3, 4), modes):
            for split_k in SPLITS if block_m <= FEW_ROWS else (1,):
                for precision in PRECISIONS[problem.dtype]:
                    tiles = dataclasses.replace(
                        default,
                        block_m=block_m,
                        block_n=block_n,
                        block_k=block_k,
                        warps=warps,
                        stages=stages,
                        descriptors=descriptors,
                        persistent=persistent,
                        specialise=specialise,
                        split_k=split_k,
                        precision=precision,
                    )
                    if tiles != default:
                        found.append(tiles)
    return found


def _default(problem: Problem, hardware: Hardware, shapes: Sequence[Shape]) -> Tiles:
    """Row tiles as high as an expert's mean rows, and for few rows enough programs to keep the memory busy."""
    rows = problem.N / problem.E
    largest = LARGEST_TILE if hardware.tensor_descriptors else LARGEST_OLD_TILE
    fitting = [shape for shape in shapes if shape[0] <= max(rows, shapes[0][0]) and shape[0] * shape[1] <= largest]
    for block_m, block_n, block_k, warps in reversed(fitting):
        for stages in (4, 3, 2):
            for descriptors in (True, False):
                tiles = Tiles(
                    block_m=block_m,
                    block_n=block_n,
                    block_k=block_k,
                    warps=warps,
                    stages=stages,
                    descriptors=descriptors,
                    block_w=64 if problem.dtype == "float32" else 128,
                    split_k=_splits(problem, hardware, block_n) if block_m <= FEW_ROWS else 1,
                )
                if tiles.fault(problem, hardware) is None:
                    return tiles
    raise AssertionError(f"the smallest tiles do not fit {hardware.shared_bytes} bytes of shared memory")


def _splits(problem: Problem, hardware: Hardware, block_n: int) -> int:
    """Programs that share a tile of the down projection, when every expert that is touched has one row tile."""
    tiles = min(problem.E, problem.N) * -(-problem.D // block_n)
    return next((splits for splits in SPLITS if tiles * splits >= BUSY * hardware.processors), SPLITS[-1])
