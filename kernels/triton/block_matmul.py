"""The indices of a block-sparse matrix, and the product with its transpose, which the grouped products do not have.

The other products of a block-sparse layer are those of `grouped_gemm` with a SIDE: sampling the nonzero blocks of
x W_up^T is `up` and of dy W_down is `down_backward`; multiplying the blocks by a dense matrix is `down`.
"""

import triton
import triton.language as tl

from .tile_ops import dot, narrow, place


@triton.jit
def connect(
    expert_M, first_E, transpose_Z, row_Z, first_J, nonzeros, experts, COLUMNS: tl.constexpr, BLOCK: tl.constexpr
):
    """Write the indices of a `BlockTopology`, given the expert of each block row and each expert's first block row."""
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    # The i-th nonzero by row and the i-th by column have one expert: both orders finish an expert before the next.
    e = tl.load(expert_M + i // COLUMNS, mask=i < nonzeros, other=-1)
    used = e >= 0
    first = tl.load(first_E + e, mask=used, other=0)
    height = tl.load(first_E + e + 1, mask=used, other=1) - first
    within = i - first * COLUMNS
    row = first + within % height
    tl.store(transpose_Z + i, tl.where(used, row * COLUMNS + within // height, -1), mask=i < nonzeros)
    tl.store(row_Z + i, tl.where(used, row, -1), mask=i < nonzeros)
    e = i // COLUMNS
    first = tl.load(first_E + e, mask=e <= experts, other=0)
    height = tl.load(first_E + e + 1, mask=e < experts, other=0) - first
    tl.store(first_J + i, first * COLUMNS + i % COLUMNS * height, mask=i <= experts * COLUMNS)


@triton.jit
def transposed_product(
    values, rows, dw, transpose_Z, row_Z, first_J, experts,
    H: tl.constexpr, D: tl.constexpr, HIDDEN_FIRST: tl.constexpr, SIDE: tl.constexpr,
    BLOCK_H: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_B: tl.constexpr, GROUP_H: tl.constexpr,
    VALUES_TILED: tl.constexpr, ROWS_TILED: tl.constexpr, PRECISION: tl.constexpr, UPCAST: tl.constexpr,
):  # fmt: skip
    """Compute dw (E, H, D), or (E, D, H) unless HIDDEN_FIRST: transposed blocks (Z, SIDE, SIDE) times rows (R, D).

    A tile is BLOCK_H / SIDE block columns of an expert by BLOCK_D. Its program sums over the nonzeros of the first of
    them from top to bottom, BLOCK_B rows at a time; those of the others stand to the right of them. A column without a
    nonzero gives zeros. All rows of a block count: those that pad are zero.
    """
    COLUMNS: tl.constexpr = H // SIDE
    STEPS: tl.constexpr = SIDE // BLOCK_B
    TILES_H: tl.constexpr = (H + BLOCK_H - 1) // BLOCK_H
    TILES_D: tl.constexpr = (D + BLOCK_D - 1) // BLOCK_D
    TILES: tl.constexpr = TILES_H * TILES_D
    for tile in tl.range(tl.program_id(0), experts * TILES, tl.num_programs(0)):
        e = tile // TILES
        h, d = place(tile % TILES, TILES_H, TILES_D, GROUP_H)
        column = e * COLUMNS + h * (BLOCK_H // SIDE)
        h_H = h * BLOCK_H + tl.arange(0, BLOCK_H)
        d_D = d * BLOCK_D + tl.arange(0, BLOCK_D)
        b_B = tl.arange(0, BLOCK_B)
        in_values_H = (tl.arange(0, BLOCK_H) // SIDE) * (SIDE * SIDE) + tl.arange(0, BLOCK_H) % SIDE
        if HIDDEN_FIRST:
            acc = tl.zeros((BLOCK_H, BLOCK_D), tl.float32)
        else:
            acc = tl.zeros((BLOCK_D, BLOCK_H), tl.float32)
        for step in tl.range(tl.load(first_J + column) * STEPS, tl.load(first_J + column + 1) * STEPS):
            z = tl.load(transpose_Z + step // STEPS)
            row = tl.load(row_Z + step // STEPS) * SIDE + step % STEPS * BLOCK_B
            if VALUES_TILED:
                values_BH = values.load([z, step % STEPS * BLOCK_B, 0]).reshape(BLOCK_B, BLOCK_H)
            else:
                z_B = z.to(tl.int64) * (SIDE * SIDE) + (step % STEPS * BLOCK_B + b_B) * SIDE
                values_BH = tl.load(values + z_B[:, None] + in_values_H[None, :], mask=(h_H < H)[None, :], other=0.0)
            if ROWS_TILED:
                rows_BD = rows.load([row, d * BLOCK_D])
            else:
                row_B = (row + b_B).to(tl.int64)
                rows_BD = tl.load(rows + row_B[:, None] * D + d_D[None, :], mask=(d_D < D)[None, :], other=0.0)
            if HIDDEN_FIRST:
                acc = dot(values_BH.T, rows_BD, acc, PRECISION, UPCAST)
            else:
                acc = dot(rows_BD.T, values_BH, acc, PRECISION, UPCAST)
        if HIDDEN_FIRST:
            at = (e * H + h_H).to(tl.int64)[:, None] * D + d_D[None, :]
            inside = (h_H < H)[:, None] & (d_D < D)[None, :]
        else:
            at = (e * D + d_D).to(tl.int64)[:, None] * H + h_H[None, :]
            inside = (d_D < D)[:, None] & (h_H < H)[None, :]
        tl.store(dw + at, narrow(acc, dw, UPCAST), mask=inside)
