"""Tiles of the grouped products: the tunable part of every Triton implementation.

Each product of a layer has its own tile, written as one word of the configuration: ``128x256x64w8s4`` is 128 rows
by 256 columns in steps of 64, by 8 warps in 4 pipeline stages.
"""

from __future__ import annotations

import dataclasses
import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ..config import Config
from ..hardware.gpus import PROCESSORS, Hardware
from ..hardware.occupancy import MOST_REGISTERS
from ..problem import ELEMENT_BYTES, Problem

DESCRIPTOR_BYTES = 16  # tensor descriptors want strides in multiples of this
FEW_ROWS = 32  # of an expert: its weights are the traffic, and one column tile has too few programs to ask for them
SPLITS = (1, 2, 4)
BUSY = 2  # programs a processor that keep enough loads of weights under way
STAGES = (4, 3, 2)
LARGEST_TILE = 128 * 256
LARGEST_OLD_TILE = 128 * 128  # where products accumulate in the registers of fewer warps, more would spill
GROUPS = (8, 16, 32)
THREADS = 32  # of a warp
MOST_ACCUMULATORS = 128  # of a thread: half of its registers
OTHER_REGISTERS = 64  # of a thread, that hold no accumulators: about the least that was seen in compiled code
# Seen in compiled code, in powers of two above the largest.
BARRIER_BYTES = 8 << 10  # barriers of the copies, and the routes of gathered rows on their way to registers
FLATTENED_BARRIER_BYTES = 1 << 10  # no rows are gathered in a flattened loop
HANDED_BYTES = 16 << 10  # of results that specialised warps hand over at a time
TF32_PARTS = 3  # buffers that specialised warps keep the parts of operands in
BIAS_ROWS, BIAS_COLUMNS = 32, 128  # of one step of a bias gradient

_WORD = re.compile(r"(\d+)x(\d+)x(\d+)w(\d+)s(\d+)")

Shape = tuple[int, int, int, int]
"""Rows, columns, step, warps."""

# Higher ones later.
HALF_SHAPES: tuple[Shape, ...] = (
    (16, 64, 128, 4),
    (16, 128, 128, 4),
    (32, 64, 128, 4),
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
# Of the gradient of the weights: rows, columns, rows of an expert in a step, warps; the default first.
HALF_WEIGHT_SHAPES: tuple[Shape, ...] = ((128, 256, 64, 8), (256, 128, 64, 8), (128, 128, 64, 8), (128, 128, 64, 4))
FLOAT_WEIGHT_SHAPES: tuple[Shape, ...] = ((64, 64, 16, 8), (64, 64, 32, 8), (64, 128, 16, 8))
WEIGHT_SHAPES = {
    "float32": FLOAT_WEIGHT_SHAPES,
    "float16": HALF_WEIGHT_SHAPES,
    "bfloat16": HALF_WEIGHT_SHAPES,
    "float8_e4m3fn": HALF_WEIGHT_SHAPES,  # never trained
}
# Three TF32 products have the error of one in float32; a single one has not.
PRECISIONS = {"float32": ("ieee", "tf32x3"), "float16": ("ieee",), "bfloat16": ("ieee",), "float8_e4m3fn": ("ieee",)}


@dataclass(frozen=True)
class Tile:
    """The tile that one program of a product computes.

    ``rows`` by ``columns`` accumulate in steps of ``step`` along the contraction. ``warps`` and ``stages`` (of software
    pipelining) are Triton's.
    """

    rows: int
    columns: int
    step: int
    warps: int
    stages: int

    @staticmethod
    def parse(word: str) -> Tile:
        """Return the tile of a word such as ``128x256x64w8s4``.

        Raises:
            ValueError: for any other word.
        """
        found = _WORD.fullmatch(word)
        if found is None:
            raise ValueError(f"tile {word!r}: give ROWSxCOLUMNSxSTEPwWARPSsSTAGES, such as 128x256x64w8s4")
        return Tile(*map(int, found.groups()))

    def __str__(self) -> str:
        return f"{self.rows}x{self.columns}x{self.step}w{self.warps}s{self.stages}"

    @property
    def accumulators(self) -> int:
        """Accumulators of each thread."""
        return self.rows * self.columns // (THREADS * self.warps)

    def shared_bytes(self, problem: Problem, hardware: Hardware, *, flattened: bool = False) -> int:
        """Return the shared memory of a program: buffers of both operands, or the tile on its way to memory.

        In a ``flattened`` loop the tile goes to memory while the buffers fill again, so that both are there at once.
        At least what Triton 3.6 and 3.9 take. Without tensor descriptors it is what they take; with them up to one
        buffer less, because products of few rows and of float32 pass through registers there too.
        """
        # Older products pass through registers, and free their buffer before they start.
        buffers = self.stages if hardware.tensor_descriptors else max(1, self.stages - 1)
        operands = buffers * (self.rows + self.columns) * self.step * problem.operand_bytes
        result = self.rows * self.columns * ELEMENT_BYTES[problem.dtype]
        barriers = BARRIER_BYTES if hardware.maker == "nvidia" else 0
        both = operands + result // 2 + FLATTENED_BARRIER_BYTES if flattened else 0
        return max(operands + barriers, result + barriers, both)

    def beside(self, problem: Problem, hardware: Hardware) -> int:
        """Return how many programs of this tile a processor holds at once, by shared memory and registers."""
        held = PROCESSORS[hardware.target].programs_of(
            warps=self.warps,
            registers=min(MOST_REGISTERS, OTHER_REGISTERS + self.accumulators),
            shared_bytes=self.shared_bytes(problem, hardware),
            tensor_columns=0,
        )
        return max(1, held)


@dataclass(frozen=True, kw_only=True)
class Tiles:
    """The tiles of all products of a layer, and how their programs run.

    ``up``: the first product; its columns are those of gate and up projection together. ``down``: the second product,
    and in training the gradient of the tokens. ``down_backward``: the gradient of the hidden rows. ``weights``: the
    gradient of the weights, whose steps are rows of an expert.

    ``group_m`` row tiles share their weights in L2. ``descriptors``: tiles of weights and of contiguous rows
    are copied by tensor descriptor. ``persistent``: as many programs as fit the device take tile after tile, else there
    is a program for each tile. ``specialise``: some warps copy while others multiply. ``pdl``: a launch starts while
    the one before it ends (programmatic dependent launch). The contraction of the down projection is shared by
    ``split_k`` programs. ``precision`` is that of float32 products.
    """

    up: Tile
    down: Tile
    down_backward: Tile
    weights: Tile
    group_m: int = 8
    descriptors: bool = False
    persistent: bool = False
    specialise: bool = False
    pdl: bool = False
    split_k: int = 1
    precision: str = "ieee"

    @staticmethod
    def of(config: Config) -> Tiles:
        """Return the tiles in a configuration; it may hold other values too."""
        names = {field.name for field in dataclasses.fields(Tiles)}
        values = {name: value for name, value in config.items() if name in names}
        values |= {name: Tile.parse(str(value)) for name, value in values.items() if name in PRODUCTS}  # type: ignore[misc]  # words of a configuration become tiles
        return Tiles(**values)  # type: ignore[arg-type]  # a configuration holds plain values by name

    @staticmethod
    def same(tile: Tile, **others: object) -> Tiles:
        """Return tiles that are the same for every product."""
        return Tiles(up=tile, down=tile, down_backward=tile, weights=tile, **others)  # type: ignore[arg-type]  # checked by the fields

    def config(self) -> dict[str, int | float | str | bool]:
        """Return the tiles as a configuration of plain values."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return {name: str(value) if isinstance(value, Tile) else value for name, value in values.items()}

    def heights(self, problem: Problem) -> tuple[int, ...]:
        """Return the heights of the row tiles that a call needs, in ascending order."""
        tiles = (self.up, self.down, self.down_backward) if problem.mode == "train" else (self.up, self.down)
        return tuple(sorted({tile.rows for tile in tiles}))

    def shared_bytes(self, problem: Problem, hardware: Hardware) -> int:
        """Return the shared memory of the largest product, see `Tile.shared_bytes`."""
        backward = (self.down_backward, self.weights) if problem.mode == "train" else ()
        return max(
            *(self._shared_bytes(tile, problem, hardware, flattened=self.flattened) for tile in (self.up, self.down)),
            *(self._shared_bytes(tile, problem, hardware, flattened=False) for tile in backward),
        )

    @property
    def flattened(self) -> bool:
        """Return whether one loop runs over tiles and steps: an epilogue overlaps with copies of the next tile.

        Only products whose operands both come by descriptor: pointers would lose their asynchronous copies.
        """
        return self.persistent and self.descriptors

    def _shared_bytes(self, tile: Tile, problem: Problem, hardware: Hardware, *, flattened: bool) -> int:
        if not self.specialise:
            return tile.shared_bytes(problem, hardware, flattened=flattened)
        parts = TF32_PARTS * (tile.rows + tile.columns) * tile.step * 4 if problem.dtype == "float32" else 0
        handed = min(tile.rows * tile.columns * ELEMENT_BYTES[problem.dtype], HANDED_BYTES)
        return tile.shared_bytes(problem, hardware) + parts + handed

    def fault(self, problem: Problem, hardware: Hardware) -> str | None:
        """Return None, or why these tiles cannot be built for a problem on a device."""
        needed = self.shared_bytes(problem, hardware)
        step = DESCRIPTOR_BYTES // problem.operand_bytes
        faults = (
            (needed > hardware.shared_bytes, f"needs {needed} bytes of shared memory of {hardware.shared_bytes}"),
            (self.precision != "ieee" and hardware.maker != "nvidia", f"the device has no {self.precision} products"),
            (self.descriptors and not hardware.tensor_descriptors, "the device has no tensor descriptors"),
            (self.pdl and not hardware.tensor_descriptors, "the device has no programmatic dependent launch"),
            (
                self.descriptors and (problem.D % step or problem.F % step),
                f"tensor descriptors want widths in multiples of {step}: D = {problem.D}, F = {problem.F}",
            ),
            (
                self.specialise and not (self.descriptors and self.persistent),
                "specialised warps copy by tensor descriptor, in a persistent program",
            ),
            (
                self.specialise and self.down.rows * self.down.columns > hardware.specialised_tile,
                f"the device specialises the warps of tiles of up to {hardware.specialised_tile} elements",
            ),
        )
        return next((reason for broken, reason in faults if broken), None)


PRODUCTS = ("up", "down", "down_backward", "weights")
"""The fields of `Tiles` that hold a tile."""


def tilings(
    problem: Problem, hardware: Hardware, shapes: Sequence[Shape], *, most_accumulators: int = MOST_ACCUMULATORS
) -> list[Tiles]:
    """Return the choices of some ``shapes`` that are worth trying for a problem on a device, the default first.

    `Tiles.fault` says which can be built. The tiles of the forward pass are crossed with each other, and those of the
    backward pass; everything else is varied around the default. The long epilogue of ``down_backward`` leaves room for
    ``most_accumulators`` a thread.
    """
    default = _default(problem, hardware, shapes, most_accumulators)
    heights = _near(problem, shapes)
    near = [tile for shape in shapes if shape[0] in heights for tile in _depths(shape, problem, hardware)]
    found = [default, *_around(default, problem, near), *_forward(default, near)]
    if problem.mode == "train":
        roomy = [tile for tile in near if tile.accumulators <= most_accumulators]
        found += _backward(default, problem, hardware, roomy)
    return list(dict.fromkeys(found))


def _around(default: Tiles, problem: Problem, near: Sequence[Tile]) -> Iterator[Tiles]:
    """Yield the default with one value changed at a time, for the values whose effects are independent."""
    yield dataclasses.replace(default, descriptors=False, persistent=False)
    yield dataclasses.replace(default, pdl=True)
    for group_m in GROUPS:
        yield dataclasses.replace(default, group_m=group_m)
    for down in near:
        yield dataclasses.replace(default, down=down, descriptors=True, persistent=True, specialise=True)
        for precision in PRECISIONS[problem.dtype]:
            yield dataclasses.replace(default, up=down, down=down, precision=precision)


def _forward(default: Tiles, near: Sequence[Tile]) -> Iterator[Tiles]:
    for up, down in itertools.product(near, near):
        for persistent in {False, default.descriptors}:
            for split_k in SPLITS if down.rows <= FEW_ROWS else (1,):
                yield dataclasses.replace(default, up=up, down=down, persistent=persistent, split_k=split_k)


def _backward(default: Tiles, problem: Problem, hardware: Hardware, roomy: Sequence[Tile]) -> Iterator[Tiles]:
    weights = [tile for shape in WEIGHT_SHAPES[problem.dtype] for tile in _depths(shape, problem, hardware)]
    for down_backward, tile in itertools.product(roomy, weights):
        for persistent in {False, default.descriptors}:
            yield dataclasses.replace(default, down_backward=down_backward, weights=tile, persistent=persistent)


def _near(problem: Problem, shapes: Sequence[Shape]) -> set[int]:
    """Return the height of row tiles that an expert's mean rows fill, and the heights next to it."""
    heights = sorted({rows for rows, *_ in shapes})
    place = max((i for i, rows in enumerate(heights) if rows <= problem.N / problem.E), default=0)
    return set(heights[max(0, place - 1) : place + 2])


def _depths(shape: Shape, problem: Problem, hardware: Hardware) -> list[Tile]:
    """Return a shape in as many stages as fit, for each number of programs on a processor; the deepest first."""
    tiles = [Tile(*shape, stages) for stages in STAGES]
    fitting = [tile for tile in tiles if tile.shared_bytes(problem, hardware) <= hardware.shared_bytes]
    deepest = {tile.beside(problem, hardware): tile for tile in reversed(fitting)}
    return sorted(deepest.values(), key=lambda tile: -tile.stages)


def _default(problem: Problem, hardware: Hardware, shapes: Sequence[Shape], most_accumulators: int) -> Tiles:
    """Return row tiles as high as an expert's mean rows, and for few rows enough programs to keep memory busy."""
    rows = problem.N / problem.E
    largest = LARGEST_TILE if hardware.tensor_descriptors else LARGEST_OLD_TILE
    fitting = [shape for shape in shapes if shape[0] <= max(rows, shapes[0][0]) and shape[0] * shape[1] <= largest]
    tiles = [tile for shape in reversed(fitting) for tile in _depths(shape, problem, hardware)]
    if not tiles:
        raise AssertionError(f"the smallest tiles do not fit {hardware.shared_bytes} bytes of shared memory")
    large = tiles[0]
    gradient = [shape for shape in WEIGHT_SHAPES[problem.dtype] if shape[0] * shape[1] <= largest]
    narrow = [shape for shape in gradient if shape[1] <= problem.F]
    made = Tiles(
        up=large,
        down=large,
        down_backward=_paired([t for t in tiles if t.accumulators <= most_accumulators], problem, hardware),
        weights=_depths((narrow or gradient[-1:])[0], problem, hardware)[0],
        group_m=next((group for group in GROUPS if rows <= group * large.rows), GROUPS[-1]),
        split_k=_splits(problem, hardware, large.columns) if large.rows <= FEW_ROWS else 1,
    )
    described = dataclasses.replace(made, descriptors=True, persistent=large.rows > FEW_ROWS)
    return described if described.fault(problem, hardware) is None else made


def _paired(tiles: Sequence[Tile], problem: Problem, hardware: Hardware) -> Tile:
    """Return the largest tile of which two fit a processor, so that one's epilogue hides behind the other's product.

    Of four warps, which leave two programs all registers. Where products are not started by groups of four warps it is
    the largest tile of all.
    """
    if not hardware.tensor_descriptors:
        return tiles[0]
    several = (t for t in tiles if t.rows == tiles[0].rows and t.warps == 4 and t.beside(problem, hardware) > 1)
    return next(several, tiles[0])


def _splits(problem: Problem, hardware: Hardware, columns: int) -> int:
    """Return how many programs share a tile of the down projection, when each expert with rows has one row tile."""
    tiles = min(problem.E, problem.N) * -(-problem.D // columns)
    return next((splits for splits in SPLITS if tiles * splits >= BUSY * hardware.processors), SPLITS[-1])
