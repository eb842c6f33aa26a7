"""Device functions on one tile: its place in the grid, its rows, its product, its activation, its rounding.

Names follow the shape letters; a trailing M, N or K is the side of the tile that a vector runs along.
"""

import triton
import triton.language as tl
from triton.language.extra.cuda import gdc_launch_dependents, gdc_wait


@triton.jit
def follow(PDL: tl.constexpr):
    """Let the next launch start when PDL, then wait until the launches before this one are done and visible."""
    if PDL:
        gdc_launch_dependents()
        gdc_wait()


@triton.jit
def place(tile, tiles_m, TILES_N: tl.constexpr, GROUP_M: tl.constexpr):
    """Return row and column of a tile: GROUP_M rows are walked column by column, so that operands stay in L2."""
    first = tile // (GROUP_M * TILES_N) * GROUP_M
    rows = tl.minimum(tiles_m - first, GROUP_M)
    within = tile % (GROUP_M * TILES_N)
    return first + within % rows, within // rows


@triton.jit
def rows_of(m, expert_M, block_M, base_E, counts_E, BLOCK_M: tl.constexpr):
    """Return the expert of row tile m, the first of its rows in the buffer, and the number of rows in use."""
    e = tl.load(expert_M + m)
    skipped = tl.load(block_M + m) * BLOCK_M
    return e.to(tl.int64), tl.load(base_E + e) + skipped, tl.minimum(tl.load(counts_E + e) - skipped, BLOCK_M)


@triton.jit
def cells(matrix, first, i_M, n_N, WIDTH: tl.constexpr, SIDE: tl.constexpr):
    """Return pointers to columns n_N of rows first + i_M of a matrix of WIDTH columns.

    It is stored row after row, or with a SIDE in square blocks, numbered row by row, each stored row after row.
    Then the rows are some of one block, and first is the first of that block. Only first needs 64 bits.
    """
    if SIDE == 0:
        tile_MN = (i_M * WIDTH)[:, None] + n_N[None, :]
    else:
        tile_MN = (i_M * SIDE)[:, None] + (n_N // SIDE * (SIDE * SIDE) + n_N % SIDE)[None, :]
    return matrix + tl.cast(first, tl.int64) * WIDTH + tile_MN


@triton.jit
def dot(a_MK, b_KN, acc_MN, PRECISION: tl.constexpr, UPCAST: tl.constexpr):
    """Return acc + a b in float32; UPCAST for the interpreter, whose NumPy has no bfloat16."""
    if UPCAST:
        a_MK = a_MK.to(tl.float32)
        b_KN = b_KN.to(tl.float32)
    return tl.dot(a_MK, b_KN, acc_MN, input_precision=PRECISION)


@triton.jit
def narrow(x, like, UPCAST: tl.constexpr):
    """Round to the element type of the pointer ``like``; the interpreter cuts off what the hardware rounds.

    Of float8e4nv only values within its range: their exact rounding is what the interpreter is then given.
    """
    if UPCAST and like.dtype.element_ty == tl.bfloat16:
        bits = x.to(tl.int32, bitcast=True)
        x = ((bits + 0x7FFF + ((bits >> 16) & 1)) & -0x10000).to(tl.float32, bitcast=True)
    elif UPCAST and like.dtype.element_ty == tl.float8e4nv:
        bits = x.to(tl.int32, bitcast=True)
        rounded = ((bits + 0x7FFFF + ((bits >> 20) & 1)) & -0x100000).to(tl.float32, bitcast=True)
        x = tl.where(tl.abs(x) < 0.015625, (x + 24576.0) - 24576.0, rounded)  # below 2^-6 in steps of 2^-9
    return x.to(like.dtype.element_ty)


@triton.jit
def halve(x_MN):
    """Return the left and right half of a tile's columns: an epilogue needs half the registers for each."""
    return x_MN.reshape(x_MN.shape[0], 2, x_MN.shape[1] // 2).permute(0, 2, 1).split()


@triton.jit
def eighths(x_MN):
    """Return eight parts of a tile's columns, from left to right."""
    left, right = halve(x_MN)
    first, second = halve(left)
    third, fourth = halve(right)
    a, b = halve(first)
    c, d = halve(second)
    e, f = halve(third)
    g, h = halve(fourth)
    return a, b, c, d, e, f, g, h


@triton.jit
def act(x, NAME: tl.constexpr):
    """Apply the activation of `kernels.torch_ops.activations` by name, in float32; gelu is the exact one."""
    if NAME == "silu":
        return x * tl.sigmoid(x)
    elif NAME == "gelu":
        return 0.5 * x * (1 + tl.erf(x * 0.7071067811865476))
    else:
        return tl.maximum(x, 0)


@triton.jit
def act_slope(x, NAME: tl.constexpr):
    """Return the derivative of the activation."""
    if NAME == "silu":
        s = tl.sigmoid(x)
        return s * (1 + x * (1 - s))
    elif NAME == "gelu":
        return 0.5 * (1 + tl.erf(x * 0.7071067811865476)) + x * 0.3989422804014327 * tl.exp(-0.5 * x * x)
    else:
        return tl.where(x > 0, 1.0, 0.0)
