"""Products with a block-sparse matrix in plain torch, after MegaBlocks (Gale et al. 2022, section 5).

The hidden activation of all experts is one matrix of padded rows by E * F columns, zero outside the blocks that pair
the rows of an expert with its columns. Only these blocks are stored, each B by B. MegaBlocks gives every nonzero block
to one program of a kernel; here the batch of one ``bmm`` is the block columns of one expert, which strided views of
both factors describe without a copy. Gathering the factors of each block instead, as a general sparsity pattern needs,
moves one element for every 2 * B FLOPs, which costs as much as the products themselves in bfloat16.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, cast

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


@dataclass(frozen=True, kw_only=True)
class Band:
    """The rows of one expert, a multiple of B, and its nonzero blocks, column by column."""

    expert: int
    rows: slice
    blocks: slice


@dataclass(frozen=True, kw_only=True)
class Topology:
    """Which blocks of the hidden activation are nonzero: ``columns`` block columns of side ``block`` for every expert.

    Factors of the products are ``rows_PD``; ``values``, the nonzero blocks (nnz, B, B) of one matrix, or of two that
    share the topology when gated; and ``m_EUD``, as many matrices (F, D) for each expert, one under the other.
    """

    block: int
    columns: int
    bands: tuple[Band, ...]

    @staticmethod
    def of(counts: Sequence[int], *, hidden: int, block: int) -> Topology:
        """The blocks of experts with ``counts`` rows each and ``hidden`` columns, which ``block`` must divide."""
        columns = hidden // block
        starts = [0]
        for count in counts:
            starts.append(starts[-1] + -(-count // block))
        bands = tuple(
            Band(expert=e, rows=slice(start * block, end * block), blocks=slice(start * columns, end * columns))
            for e, (start, end) in enumerate(pairwise(starts))
            if end > start
        )
        return Topology(block=block, columns=columns, bands=bands)

    def alone(self, band: Band) -> Topology:
        """The topology of one band's own rows."""
        rows, blocks = band.rows.stop - band.rows.start, band.blocks.stop - band.blocks.start
        only = Band(expert=band.expert, rows=slice(0, rows), blocks=slice(0, blocks))
        return Topology(block=self.block, columns=self.columns, bands=(only,))

    @property
    def rows(self) -> int:
        """P, rows of all bands."""
        return self.bands[-1].rows.stop if self.bands else 0

    @property
    def nonzero(self) -> int:
        """Nonzero blocks."""
        return self.bands[-1].blocks.stop if self.bands else 0

    def columns_of(self, band: Band, values: Tensor) -> Tensor:
        """The band's block columns as a batch of matrices, a view (F / B, rows, B)."""
        return values[band.blocks].view(self.columns, -1, self.block)

    def matrices_of(self, band: Band, m_EUD: Tensor) -> Tensor:
        """The expert's matrices cut into blocks of B rows, a view (parts, F / B, B, D)."""
        return m_EUD[band.expert].view(-1, self.columns, self.block, m_EUD.shape[2])


def sdd(topology: Topology, rows_PD: Tensor, m_EUD: Tensor) -> tuple[Tensor, ...]:
    """Sampled dense-dense: the nonzero blocks of ``rows @ m.T``, one tensor for each matrix of an expert."""
    parts = m_EUD.shape[1] // (topology.columns * topology.block)
    shape = (topology.nonzero, topology.block, topology.block)
    values = tuple(rows_PD.new_empty(shape) for _ in range(parts))
    for band in topology.bands:
        rows_nD = rows_PD[band.rows].expand(topology.columns, -1, -1)
        for part, m_JBD in zip(values, topology.matrices_of(band, m_EUD), strict=True):
            torch.bmm(rows_nD, m_JBD.transpose(1, 2), out=topology.columns_of(band, part))
    return values


def dsd(topology: Topology, values: Sequence[Tensor], m_EUD: Tensor) -> Tensor:
    """Block-sparse by dense: ``values @ m``, rows (P, D), summed over the matrices of an expert."""
    rows_PD = m_EUD.new_empty((topology.rows, m_EUD.shape[2]))
    for band in topology.bands:
        # Laid out as one dense matrix, the sum over its blocks happens inside the product, in its precision.
        dense_nU = torch.cat([topology.columns_of(band, part).transpose(0, 1) for part in values], dim=1).flatten(1)
        torch.mm(dense_nU, m_EUD[band.expert], out=rows_PD[band.rows])
    return rows_PD


def dst(topology: Topology, values: Sequence[Tensor], rows_PD: Tensor, out_EUD: Tensor) -> None:
    """Transposed block-sparse by dense into ``out``: ``values.T @ rows``, zero for an expert without rows."""
    with_rows = {band.expert for band in topology.bands}
    for expert in set(range(out_EUD.shape[0])) - with_rows:
        out_EUD[expert].zero_()
    for band in topology.bands:
        rows_nD = rows_PD[band.rows].expand(topology.columns, -1, -1)
        for part, out_JBD in zip(values, topology.matrices_of(band, out_EUD), strict=True):
            torch.bmm(topology.columns_of(band, part).transpose(1, 2), rows_nD, out=out_JBD)


def sample_product(topology: Topology, rows_PD: Tensor, m_EUD: Tensor) -> tuple[Tensor, ...]:
    """`sdd`, differentiable in both factors."""
    return cast(tuple[Tensor, ...], _Sdd.apply(topology, rows_PD, m_EUD))  # type: ignore[no-untyped-call]


def sparse_product(topology: Topology, values: Tensor, m_EFD: Tensor) -> Tensor:
    """`dsd` of one matrix, differentiable in both factors."""
    return cast(Tensor, _Dsd.apply(topology, values, m_EFD))  # type: ignore[no-untyped-call]


class _Sdd(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, topology: Topology, rows_PD: Tensor, m_EUD: Tensor) -> tuple[Tensor, ...]:
        ctx.topology = topology
        ctx.save_for_backward(rows_PD, m_EUD)
        return sdd(topology, rows_PD, m_EUD)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *dvalues: Tensor) -> tuple[None, Tensor, Tensor]:
        rows_PD, m_EUD = ctx.saved_tensors
        dm_EUD = torch.empty_like(m_EUD)
        dst(ctx.topology, dvalues, rows_PD, dm_EUD)
        return None, dsd(ctx.topology, dvalues, m_EUD), dm_EUD


class _Dsd(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, topology: Topology, values: Tensor, m_EFD: Tensor) -> Tensor:
        ctx.topology = topology
        ctx.save_for_backward(values, m_EFD)
        return dsd(topology, [values], m_EFD)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, drows_PD: Tensor) -> tuple[None, Tensor, Tensor]:
        values, m_EFD = ctx.saved_tensors
        dm_EFD = torch.empty_like(m_EFD)
        dst(ctx.topology, [values], drows_PD, dm_EFD)
        (dvalues,) = sdd(ctx.topology, drows_PD, m_EFD)
        return None, dvalues, dm_EFD
