"""Comparison of results bit for bit: which rows differ, by how much, and what differs first."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ....kernels.oracle import OF_TOKENS
from ....kernels.problem.tensors import is_of_layer

LARGEST_DISTANCE = 2.0  # of two rows, over the larger of their norms; taken for rows that are not finite too
_BITS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


@dataclass(frozen=True, order=True)
class DifferingRow:
    """One row that differs: of the tensor of that number in order of names, y first, in that comparison."""

    tensor: int
    row: int
    comparison: int


@dataclass(frozen=True)
class DifferingRows:
    """Rows of one tensor whose bits differ, int64 (n,) in ascending order, and their distances, float64 (n,).

    The distance of two rows is ‖one − other‖ over the larger of their norms.
    """

    row_n: Tensor
    distance_n: Tensor


def differing_rows(one: Tensor, other: Tensor) -> DifferingRows:
    """Compare two tensors of one shape and dtype row by row; 0 and −0 differ, as do two kinds of NaN.

    Raises:
        ValueError: when shapes or dtypes differ.
    """
    if one.shape != other.shape or one.dtype != other.dtype:
        raise ValueError(
            f"a result has shape {tuple(one.shape)} and {one.dtype}, in another call it has {tuple(other.shape)} and "
            f"{other.dtype}"
        )
    bits = [tensor.detach().contiguous().flatten(1).view(_BITS[tensor.element_size()]) for tensor in (one, other)]
    row_n = (bits[0] != bits[1]).any(1).nonzero()[:, 0]
    mine, theirs = (tensor.detach()[row_n].flatten(1).double() for tensor in (one, other))
    larger_n = torch.maximum(mine.norm(dim=1), theirs.norm(dim=1))
    distance_n = torch.where(larger_n == 0, 0.0, (mine - theirs).norm(dim=1) / larger_n)
    distance_n = distance_n.nan_to_num(nan=LARGEST_DISTANCE, posinf=LARGEST_DISTANCE)
    return DifferingRows(row_n, distance_n.clamp(max=LARGEST_DISTANCE))


def has_token_rows(name: str) -> bool:
    """Return whether y, or the gradient of that name, has a row for each token; others have one for each expert."""
    return name == "y" or name in OF_TOKENS


def row_words(name: str, row: int) -> str:
    """Return what a row of y or of a gradient is, in words."""
    if name == "y":
        return f"token {row}"
    if is_of_layer(name):
        return f"d{name}"
    return f"d{name} of {'token' if name in OF_TOKENS else 'expert'} {row}"
