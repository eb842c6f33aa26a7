"""Products with a block-sparse matrix in plain torch, after MegaBlocks (Gale et al. 2022, sections 4 and 5).

The hidden activation of all experts is one matrix of P padded rows by E * H columns, zero outside the blocks that pair
the rows of an expert with its columns. Only these blocks are stored, each B by B. MegaBlocks gives every nonzero block
to one program of a kernel. Plain torch takes a block row at a time, or in the transposed product a block column: its
blocks are a single matmul whose factors are views. To gather the factors of every block for one large batch instead
moves an element for every 2 * B FLOPs, and was half as fast in bfloat16.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .differentiable_once import differentiable_once

Index = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class BlockRow:
    """The nonzero ``blocks`` of one block row: ``rows`` of P by ``columns`` of one expert's H."""

    rows: slice
    expert: int
    columns: slice
    blocks: slice


@dataclass(frozen=True, kw_only=True)
class BlockColumn:
    """The nonzero ``blocks`` of one block column, top to bottom: ``rows`` of P by ``columns`` of one expert's H."""

    rows: slice
    expert: int
    columns: slice
    blocks: Index


@dataclass(frozen=True, kw_only=True)
class SparseTopology:
    """The nonzero blocks, on the host: block ``z`` is in block row ``row_Z[z]`` and block column ``column_Z[z]``.

    Blocks are kept row by row; ``transpose_Z`` lists them column by column. ``hidden`` is H, the columns of one expert.
    """

    block: int
    hidden: int
    row_Z: Index
    column_Z: Index
    transpose_Z: Index

    @staticmethod
    def of(counts: Sequence[int], *, hidden: int, block: int) -> SparseTopology:
        """Return the blocks of experts with ``counts`` rows each and ``hidden`` columns, a multiple of ``block``."""
        columns = hidden // block
        rows_E = -(-np.asarray(counts, dtype=np.int64) // block)
        expert_R = np.repeat(np.arange(len(counts)), rows_E)
        column_Z = (expert_R[:, None] * columns + np.arange(columns)).ravel()
        return SparseTopology(
            block=block,
            hidden=hidden,
            row_Z=np.repeat(np.arange(expert_R.size), columns),
            column_Z=column_Z,
            transpose_Z=np.argsort(column_Z, kind="stable"),
        )

    @property
    def rows(self) -> int:
        """P, the number of rows of all block rows."""
        return (int(self.row_Z[-1]) + 1) * self.block if self.row_Z.size else 0

    @property
    def nonzero(self) -> int:
        """Number of nonzero blocks."""
        return self.row_Z.size

    def block_rows(self) -> Iterator[BlockRow]:
        """Yield every block row, top to bottom."""
        for row, start, end in _runs(self.row_Z):
            expert, columns = self._columns(self.column_Z[start], self.column_Z[end - 1])
            yield BlockRow(rows=self._rows(row, row), expert=expert, columns=columns, blocks=slice(start, end))

    def block_columns(self) -> Iterator[BlockColumn]:
        """Yield every block column that has a nonzero block, left to right."""
        for column, start, end in _runs(self.column_Z[self.transpose_Z]):
            blocks = self.transpose_Z[start:end]
            expert, columns = self._columns(column, column)
            rows = self._rows(self.row_Z[blocks[0]], self.row_Z[blocks[-1]])
            yield BlockColumn(rows=rows, expert=expert, columns=columns, blocks=blocks)

    def _rows(self, first: int, last: int) -> slice:
        return slice(int(first) * self.block, (int(last) + 1) * self.block)

    def _columns(self, first: int, last: int) -> tuple[int, slice]:
        """Return the expert of a run of block columns, and the position of the run among its columns."""
        expert, start = divmod(int(first) * self.block, self.hidden)
        return expert, slice(start, start + (int(last) - int(first) + 1) * self.block)


def _runs(sorted_Z: Index) -> Iterator[tuple[int, int, int]]:
    """Yield (value, start, end) of every run of equal values."""
    values, starts, counts = np.unique(sorted_Z, return_index=True, return_counts=True)
    yield from zip(values.tolist(), starts.tolist(), (starts + counts).tolist(), strict=True)


def sdd(topology: SparseTopology, rows_PD: Tensor, m_EHD: Tensor) -> Tensor:
    """Compute the nonzero blocks of ``rows @ m.T``, (nnz, B, B): sampled dense-dense."""
    block = topology.block
    values = rows_PD.new_empty(topology.nonzero, block, block)
    for row in topology.block_rows():
        product = rows_PD[row.rows] @ m_EHD[row.expert, row.columns].T
        values[row.blocks] = product.view(block, -1, block).transpose(0, 1)
    return values


def dsd(topology: SparseTopology, values: Tensor, m_EHD: Tensor) -> Tensor:
    """Compute ``values @ m``, (P, D): block-sparse by dense."""
    rows_PD = m_EHD.new_empty(topology.rows, m_EHD.shape[2])
    for row in topology.block_rows():
        # As one matrix side by side, the blocks are summed inside the product, in its precision.
        torch.mm(values[row.blocks].transpose(0, 1).flatten(1), m_EHD[row.expert, row.columns], out=rows_PD[row.rows])
    return rows_PD


def dst(topology: SparseTopology, values: Tensor, rows_PD: Tensor, out_EHD: Tensor) -> None:
    """Write ``values.T @ rows`` into ``out``, zero in columns without a block: transposed block-sparse by dense."""
    out_EHD.zero_()
    for column in topology.block_columns():
        blocks = values[torch.from_numpy(column.blocks).to(values.device)]
        out_EHD[column.expert, column.columns] = blocks.flatten(0, 1).T @ rows_PD[column.rows]


def sample_product(topology: SparseTopology, rows_PD: Tensor, m_EHD: Tensor) -> Tensor:
    """Compute `sdd`, differentiable in both factors."""
    return cast(Tensor, _Sdd.apply(topology, rows_PD, m_EHD))  # type: ignore[no-untyped-call]  # torch's is


def sparse_product(topology: SparseTopology, values: Tensor, m_EHD: Tensor) -> Tensor:
    """Compute `dsd`, differentiable in both factors."""
    return cast(Tensor, _Dsd.apply(topology, values, m_EHD))  # type: ignore[no-untyped-call]  # torch's is


class _Sdd(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, topology: SparseTopology, rows_PD: Tensor, m_EHD: Tensor) -> Tensor:
        ctx.topology = topology
        ctx.save_for_backward(rows_PD, m_EHD)
        return sdd(topology, rows_PD, m_EHD)

    @staticmethod
    @differentiable_once
    def backward(ctx: Any, dvalues: Tensor) -> tuple[None, Tensor, Tensor]:
        rows_PD, m_EHD = ctx.saved_tensors
        dm_EHD = torch.empty_like(m_EHD)
        dst(ctx.topology, dvalues, rows_PD, dm_EHD)
        return None, dsd(ctx.topology, dvalues, m_EHD), dm_EHD


class _Dsd(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, topology: SparseTopology, values: Tensor, m_EHD: Tensor) -> Tensor:
        ctx.topology = topology
        ctx.save_for_backward(values, m_EHD)
        return dsd(topology, values, m_EHD)

    @staticmethod
    @differentiable_once
    def backward(ctx: Any, drows_PD: Tensor) -> tuple[None, Tensor, Tensor]:
        values, m_EHD = ctx.saved_tensors
        dm_EHD = torch.empty_like(m_EHD)
        dst(ctx.topology, values, drows_PD, dm_EHD)
        return None, sdd(ctx.topology, drows_PD, m_EHD), dm_EHD
