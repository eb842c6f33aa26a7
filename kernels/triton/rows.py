"""Kernels that copy tokens into the buffer, sum its rows back into tokens, and quantise rows."""

import triton
import triton.language as tl

from .tile_ops import follow, narrow


@triton.jit
def copy_rows(
    x, rows, expert_M, block_M, base_E, counts_E, route_R, x_row, x_col,
    D: tl.constexpr, CHOSEN: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_D: tl.constexpr, PAD: tl.constexpr,
    PDL: tl.constexpr,
):  # fmt: skip
    """Copy every token to its rows (R, D), one program for a tile of rows; zeros below them in the tile when PAD."""
    TILES_D: tl.constexpr = (D + BLOCK_D - 1) // BLOCK_D
    follow(PDL)
    m = tl.program_id(0) // TILES_D
    e = tl.load(expert_M + m).to(tl.int64)
    if e >= 0:
        d_D = tl.program_id(0) % TILES_D * BLOCK_D + tl.arange(0, BLOCK_D)
        skipped = tl.load(block_M + m) * BLOCK_M
        i_M = tl.arange(0, BLOCK_M)
        row_M = (tl.load(base_E + e) + skipped + i_M).to(tl.int64)
        stands_M = i_M < tl.load(counts_E + e) - skipped
        token_M = tl.load(route_R + row_M, mask=stands_M, other=0).to(tl.int64) // CHOSEN
        inside_MD = stands_M[:, None] & (d_D < D)[None, :]
        x_MD = tl.load(x + token_M[:, None] * x_row + d_D[None, :].to(tl.int64) * x_col, mask=inside_MD, other=0.0)
        stored_MD = (d_D < D)[None, :] if PAD else inside_MD
        tl.store(rows + row_M[:, None] * D + d_D[None, :], x_MD, mask=stored_MD)


@triton.jit
def sum_rows(
    rows, slot_N, y, splits, rows_split,
    D: tl.constexpr, CHOSEN: tl.constexpr, BY_ROUTE: tl.constexpr, BLOCK_D: tl.constexpr, UPCAST: tl.constexpr,
    PDL: tl.constexpr,
):  # fmt: skip
    """Compute y (T, D): add up the rows of each token's routes in float32, route by route and split by split.

    A row is found at its route when BY_ROUTE, else at its slot; a slot of -1 adds nothing.
    """
    TILES_D: tl.constexpr = (D + BLOCK_D - 1) // BLOCK_D
    follow(PDL)
    t = (tl.program_id(0) // TILES_D).to(tl.int64)
    d_D = tl.program_id(0) % TILES_D * BLOCK_D + tl.arange(0, BLOCK_D)
    y_D = tl.zeros((BLOCK_D,), tl.float32)
    for k in tl.range(CHOSEN):
        route = t * CHOSEN + k
        slot = tl.load(slot_N + route).to(tl.int64)
        if slot >= 0:
            at_D = rows + (route if BY_ROUTE else slot) * D + d_D
            for _ in tl.range(splits):
                y_D += tl.load(at_D, mask=d_D < D, other=0.0).to(tl.float32)
                at_D += rows_split
    tl.store(y + t * D + d_D, narrow(y_D, y, UPCAST), mask=d_D < D)


@triton.jit
def quantise_rows(
    x, q, scales, route_R, x_row, x_col,
    D: tl.constexpr, LARGEST: tl.constexpr, LEAST_SCALE: tl.constexpr, BLOCK_D: tl.constexpr, UPCAST: tl.constexpr,
):  # fmt: skip
    """Compute q (M, D) = x / scale in the dtype of q, and scales (M,): the largest of every row becomes LARGEST.

    With routes only the rows in use are quantised.
    """
    row = tl.program_id(0).to(tl.int64)
    stands = True
    if route_R is not None:
        stands = tl.load(route_R + row) >= 0
    if stands:
        d_D = tl.arange(0, BLOCK_D)
        largest_D = tl.zeros((BLOCK_D,), tl.float32)
        for d0 in tl.range(0, D, BLOCK_D):
            x_D = tl.load(x + row * x_row + (d0 + d_D).to(tl.int64) * x_col, mask=d0 + d_D < D, other=0.0)
            largest_D = tl.maximum(largest_D, tl.abs(x_D.to(tl.float32)))
        scale = tl.maximum(tl.max(largest_D, 0) / LARGEST, LEAST_SCALE)
        tl.store(scales + row, scale)
        for d0 in tl.range(0, D, BLOCK_D):
            x_D = tl.load(x + row * x_row + (d0 + d_D).to(tl.int64) * x_col, mask=d0 + d_D < D, other=0.0)
            tl.store(q + row * D + d0 + d_D, narrow(x_D.to(tl.float32) / scale, q, UPCAST), mask=d0 + d_D < D)
