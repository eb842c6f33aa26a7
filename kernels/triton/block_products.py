"""The products of a block-sparse layer: hidden rows are stored in blocks, and an index lists their transpose."""

from __future__ import annotations

import torch
import triton
from torch import Tensor
from triton.tools.tensor_descriptor import TensorDescriptor

from ..problem.routing import Routing
from .block_matmul import transposed_product
from .block_topology import BlockTopology
from .expert_mlp import LayerPlan
from .grouped_products import GroupedProducts, Operand
from .launch import INTERPRETED, launch


class BlockProducts(GroupedProducts):
    """Rows padded with zeros to whole blocks, as high as a row tile; hidden rows as their nonzero blocks (Z, B, B).

    A tensor of hidden rows (R, U) or (R, F) is the memory of those blocks: as many elements, in another order.
    """

    @property
    def side(self) -> int:
        """B."""
        return self.tiles.up.rows

    def weight_gradient(self, p: Tensor, q: Tensor, *, tokens: str, shape: torch.Size) -> Tensor:
        """Return p^T q summed over the rows of each expert, (E, …); ``tokens`` names the operand that is not hidden."""
        hidden, rows = (q, p) if tokens == "p" else (p, q)
        width, height = hidden.shape[1], rows.shape[1]
        side, tile = self.side, self.tiles.weights
        block_h, block_d = max(side, tile.rows), tile.columns
        step = min(side, tile.step)
        values = self._described(_blocks(hidden, side), [1, step, side]) if block_h == side else hidden
        rows_operand = self._described(rows, [step, block_d])
        topology = BlockTopology.of(self.schedules[side], columns=width // side)
        dw = p.new_empty(shape)
        launch(
            transposed_product,
            self._share(tile, shape[0] * triton.cdiv(width, block_h) * triton.cdiv(height, block_d)),
            values, rows_operand, dw, topology.transpose_Z, topology.row_Z, topology.first_J, shape[0],
            H=width, D=height, HIDDEN_FIRST=hidden is p, SIDE=side, BLOCK_H=block_h, BLOCK_D=block_d, BLOCK_B=step,
            GROUP_H=self.tiles.group_m, VALUES_TILED=isinstance(values, TensorDescriptor),
            ROWS_TILED=isinstance(rows_operand, TensorDescriptor), PRECISION=self.tiles.precision, UPCAST=INTERPRETED,
            warps=tile.warps, stages=self._stages_of_gather(tile),
        )  # fmt: skip
        return dw

    def _hidden_operand(self, a: Tensor) -> Operand:
        """Return hidden rows as an operand. A descriptor covers part of one block; longer steps load by pointer."""
        if self.tiles.down.step > self.side:
            return a
        return self._described(_blocks(a, self.side), [1, self.side, self.tiles.down.step])


class BlockPlan(LayerPlan):
    """A layer whose rows are rounded up to blocks as high as its row tiles."""

    def products(self, routing: Routing) -> BlockProducts:
        """Return the products of one call, with its rows in expert order."""
        return BlockProducts(**vars(super().products(routing)))


def _blocks(hidden: Tensor, side: int) -> Tensor:
    return hidden.view(-1, side, side)
