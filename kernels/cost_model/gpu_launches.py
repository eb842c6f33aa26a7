"""Cost model of a Triton layer: its launches, forward and backward, as steps whose time is computed without a GPU.

It follows `expert_mlp.LayerPlan` and `grouped_products.GroupedProducts` launch by launch; it does not need Triton.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from ..cuda.route_sorting import launches
from ..hardware.gpus import DATA_SHEETS, Hardware
from ..problem import ELEMENT_BYTES, SCALE_BYTES, Problem
from ..steps import Step
from ..triton.permutation import block_bound
from ..triton.tiles import BIAS_ROWS, HANDED_BYTES, TF32_PARTS, Tile, Tiles
from .grid import FIXED_REGISTERS, Grid, MemoryStream, Program

HIDDEN_GRADIENT_REGISTERS = 124  # of a thread of `down_backward` beside its accumulators; seen in compiled code
INDEX_BYTES = 4


@dataclass(frozen=True, kw_only=True)
class LayerLaunches:
    """The launches of one call of a layer whose experts receive ``counts`` rows.

    With ``gathered`` tokens are read where they are, else copied; with ``blocked`` rows are padded to whole tiles and
    hidden rows are stored in square blocks.
    """

    problem: Problem
    tiles: Tiles
    hardware: Hardware
    counts: tuple[int, ...]
    gathered: bool
    blocked: bool = False

    def steps(self) -> list[Step]:
        """Return the steps of the forward pass, and in training of the backward pass."""
        trained = self.problem.mode == "train"
        return [*self._forward(), *(self._backward() if trained else ())]

    def _forward(self) -> Iterator[Step]:
        problem, quantised = self.problem, self.problem.quantised
        yield MemoryStream(name="order", moved_bytes=4 * INDEX_BYTES * problem.N, calls=launches(problem.N, problem.E))
        if quantised:
            yield self._quantise("tokens", problem.T, problem.D)
        yield from self._dispatch(problem.operand_bytes)
        stored = problem.F + (problem.U if problem.mode == "train" else 0)
        yield self._up(stored=stored)
        if quantised:
            yield self._quantise("hidden", self._kept, problem.F)
        splits = self.tiles.split_k
        part_bytes = self._element if splits == 1 else 4
        yield self._rows_times(
            "down",
            self.tiles.down,
            width=problem.D,
            depth=problem.F,
            splits=splits,
            flattened=self.tiles.flattened,
            stored_bytes=splits * problem.D * part_bytes,
        )
        yield self._combine(splits * part_bytes)

    def _backward(self) -> Iterator[Step]:
        problem = self.problem
        element = self._element
        yield from self._dispatch(element)
        tile = self.tiles.down_backward
        # Besides dy: h is read, dh and the gated hidden rows are written.
        yield self._rows_times(
            "down_backward",
            tile,
            width=problem.F,
            depth=problem.D,
            gathered=self.gathered,
            fixed_registers=HIDDEN_GRADIENT_REGISTERS,
            stored_bytes=(2 * problem.U + problem.F) * element,
        )
        parts = -(-problem.F // tile.columns)
        yield MemoryStream(name="gate gradients", moved_bytes=3 * 4 * parts * problem.N, calls=2)
        yield self._weight_gradient("down_weights", problem.D, problem.F)
        if problem.bias:
            yield self._bias_gradient("down_bias", problem.D)
        yield from self._dispatch(element)
        yield self._weight_gradient("up_weights", problem.U, problem.D)
        if problem.bias:
            yield self._bias_gradient("up_bias", problem.U)
        yield self._rows_times(
            "tokens",
            self.tiles.down,
            width=problem.D,
            depth=problem.U,
            flattened=self.tiles.flattened,
            stored_bytes=problem.D * element,
        )
        yield self._combine(element)

    @property
    def _element(self) -> int:
        return ELEMENT_BYTES[self.problem.dtype]

    @cached_property
    def _counts_E(self) -> NDArray[np.int64]:
        return np.asarray(self.counts, dtype=np.int64)

    @cached_property
    def _kept(self) -> int:
        return sum(self.counts)

    @cached_property
    def _touched(self) -> int:
        return sum(count > 0 for count in self.counts)

    def _row_tiles_E(self, tile: Tile) -> NDArray[np.int64]:
        return -(-self._counts_E // tile.rows)

    def _most_row_tiles(self, tile: Tile) -> int:
        """Return the row tiles that the host starts programs for: as many as any routing may need."""
        problem, block = self.problem, tile.rows
        limit = problem.capacity or max(1, problem.N)
        return min(block_bound(problem.N, problem.E, block), problem.E * (_up(limit, block) // block))

    def _missed(self, held_bytes: float) -> float:
        """Return the share of ``held_bytes`` that is no longer in L2 when they are read again."""
        return max(0.0, 1 - DATA_SHEETS[self.hardware.target].l2_bytes / held_bytes) if held_bytes else 0.0

    def _quantise(self, what: str, rows: int, width: int) -> MemoryStream:
        moved = rows * (width * (self._element + self.problem.operand_bytes) + SCALE_BYTES)
        return MemoryStream(name=f"quantise {what}", moved_bytes=moved)

    def _dispatch(self, element: int) -> Iterator[MemoryStream]:
        if not self.gathered:
            tile = self.tiles.up
            rows = int(self._row_tiles_E(tile).sum()) * tile.rows if self.blocked else self._kept
            row_bytes = self.problem.D * element
            moved = self._rows_read(row_bytes, gathered=True) + rows * row_bytes
            yield MemoryStream(name="dispatch", moved_bytes=moved)

    def _combine(self, row_bytes: int) -> MemoryStream:
        """Return the step that sums rows of ``row_bytes`` an element, over all splits."""
        moved = self._kept * self.problem.D * row_bytes + self.problem.token_bytes
        return MemoryStream(name="combine", moved_bytes=moved)

    def _up(self, *, stored: int) -> Grid:
        problem = self.problem
        return self._rows_times(
            "up",
            self.tiles.up,
            width=problem.F,
            depth=problem.D,
            halves=2 if problem.gated else 1,
            gathered=self.gathered,
            flattened=self.tiles.flattened and not self.gathered,
            stored_bytes=stored * self._element,
        )

    def _rows_times(
        self,
        name: str,
        tile: Tile,
        *,
        width: int,
        depth: int,
        stored_bytes: int,
        halves: int = 1,
        splits: int = 1,
        gathered: bool = False,
        flattened: bool = False,
        fixed_registers: int = FIXED_REGISTERS,
    ) -> Grid:
        """Return the product of rows and their experts' weights, ``halves`` of ``width`` columns, over ``depth``.

        ``stored_bytes`` are read or written besides the operands, for every row.
        """
        tiles, element = self.tiles, self.problem.operand_bytes
        program = self._program(tile, gathered=gathered, fixed_registers=fixed_registers)
        column_tiles = -(-halves * width // tile.columns)
        row_tiles_E = self._row_tiles_E(tile)
        used = int(row_tiles_E.sum())
        steps = -(-depth // tile.step)
        steps_split = -(-steps // splits)
        # Programs that run at the same time read the same weights, whether their rows are of one group or not.
        abreast = max(tiles.group_m, program.resident * self.hardware.processors // (column_tiles * splits))
        sweeps_E = -(-row_tiles_E // abreast)
        weight_bytes = halves * width * depth * element
        again = int(sweeps_E.sum()) - self._touched
        weights = weight_bytes * (self._touched + again * self._missed(weight_bytes))
        read_rows = self._rows_read(depth * element, gathered=gathered)
        group_bytes = tiles.group_m * tile.rows * depth * element
        read_rows += self._kept * depth * element * (column_tiles - 1) * self._missed(group_bytes)
        stored = self._kept * stored_bytes
        asked = (used * tile.columns + self._kept) * column_tiles * depth * element
        every = column_tiles * splits
        return Grid(
            name=name,
            program=program,
            tiles=used * every,
            idle=0 if tiles.persistent else (self._most_row_tiles(tile) - used) * every,
            steps=steps_split,
            longest=steps_split,
            useful=2 * self._kept * halves * width * depth,
            l2_bytes=asked + stored,
            memory_bytes=weights + read_rows + stored,
            persistent=self._persistent(tile),
            flattened=flattened,
        )

    def _persistent(self, tile: Tile) -> int:
        """Return the persistent programs of a processor; 0 when there is one program for each tile."""
        return tile.beside(self.problem, self.hardware) if self.tiles.persistent else 0

    def _rows_read(self, row_bytes: int, *, gathered: bool) -> float:
        """Return the bytes that memory supplies when rows are read once by expert; a gathered token may be in L2."""
        if not gathered:
            return self._kept * row_bytes
        tokens = min(self.problem.T, self._kept)
        return row_bytes * (tokens + (self._kept - tokens) * self._missed(tokens * row_bytes))

    def _weight_gradient(self, name: str, height: int, width: int) -> Grid:
        """Return the step of p^T q, ``height`` by ``width``, where a program sums over all rows of its expert."""
        tiles, tile, element = self.tiles, self.tiles.weights, self._element
        program = self._program(tile, gathered=self.gathered)
        down, across = -(-height // tile.rows), -(-width // tile.columns)
        up = tiles.up
        rows_E = self._row_tiles_E(up) * up.rows if self.blocked else self._counts_E
        steps_E = -(-rows_E // tile.step)
        every = down * across
        mean = self._kept / max(1, len(self.counts))
        row_bytes = (height + width) * element
        sweeps = -(-down // tiles.group_m)
        again = (sweeps - 1) * self._kept * width * element * self._missed(mean * row_bytes)
        stored = len(self.counts) * height * width * element
        return Grid(
            name=name,
            program=program,
            tiles=len(self.counts) * every,
            idle=0,
            steps=float(steps_E.mean()),
            longest=float(steps_E.max()),
            useful=2 * self._kept * height * width,
            l2_bytes=int(rows_E.sum()) * every * (tile.rows + tile.columns) * element + stored,
            memory_bytes=self._kept * row_bytes + again + stored,
            persistent=self._persistent(tile),
        )

    def _bias_gradient(self, name: str, width: int) -> MemoryStream:
        """Return the step of the bias gradient: sums over an expert's rows, one after the other."""
        chip = DATA_SHEETS[self.hardware.target]
        chain = -(-max(self.counts) // BIAS_ROWS) * chip.memory_cycles / chip.clock_hz
        return MemoryStream(name=name, moved_bytes=self._kept * width * self._element, chain_s=chain)

    def _program(self, tile: Tile, *, gathered: bool, fixed_registers: int = FIXED_REGISTERS) -> Program:
        tiles, problem, hardware = self.tiles, self.problem, self.hardware
        tf32 = tiles.precision != "ieee"
        # A warp that only copies cannot gather rows.
        specialise = tiles.specialise and not gathered
        sides = tile.rows + tile.columns
        parts = TF32_PARTS * sides * tile.step * problem.operand_bytes if tf32 else 0
        handed = min(tile.rows * tile.columns * self._element, HANDED_BYTES)
        return Program(
            hardware=hardware,
            rows=tile.rows,
            columns=tile.columns,
            step=tile.step,
            element=problem.operand_bytes,
            warps=tile.warps,
            stages=tile.stages,
            by_pointer=(tile.rows if gathered else 0) if tiles.descriptors else sides,
            more_bytes=parts + handed if specialise else 0,
            fixed_registers=fixed_registers,
            specialise=specialise,
            tensor_cores=problem.dtype != "float32" or tf32 or hardware.maker == "amd",
            tf32=tf32,
        )


def _up(number: int, step: int) -> int:
    return -(-number // step) * step
