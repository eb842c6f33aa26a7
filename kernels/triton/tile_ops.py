"""Device functions on one tile: its place in the grid, its rows, its product, its rounding, its activation.

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
    """Apply an activation of `torch_ops.activations` by name, in float32; when gated, it is the gate half's factor."""
    if NAME == "silu":
        y = x * tl.sigmoid(x)
    elif NAME == "gelu":
        y = 0.5 * x * (1 + tl.erf(x * 0.7071067811865476))
    elif NAME == "gelu_tanh":
        y = x * tl.sigmoid(1.5957691216057308 * (x + 0.044715 * x * x * x))
    elif NAME == "relu":
        y = tl.maximum(x, 0)
    elif NAME == "relu2":
        y = tl.maximum(x, 0)
        y *= y
    elif NAME == "silu_clamp10":
        low = tl.where(x > 10.0, 10.0, x)  # unlike tl.minimum it passes on what is not a number
        y = low * tl.sigmoid(low)
    elif NAME == "swiglu_oai":
        low = tl.where(x > 7.0, 7.0, x)
        y = low * tl.sigmoid(1.702 * low)
    elif NAME == "identity":
        y = x
    else:
        tl.static_assert(NAME == "situ")
        y = 4.0 * tanh(0.25 * x) * tl.sigmoid(x)
    return y


@triton.jit
def act_slope(x, NAME: tl.constexpr):
    """Return the derivative of `act`."""
    if NAME == "silu":
        s = tl.sigmoid(x)
        slope = s * (1 + x * (1 - s))
    elif NAME == "gelu":
        slope = 0.5 * (1 + tl.erf(x * 0.7071067811865476)) + x * 0.3989422804014327 * tl.exp(-0.5 * x * x)
    elif NAME == "gelu_tanh":
        s = tl.sigmoid(1.5957691216057308 * (x + 0.044715 * x * x * x))
        slope = s + x * s * (1 - s) * (1.5957691216057308 + 0.2140644488131652 * x * x)
    elif NAME == "relu":
        slope = tl.where(x > 0, 1.0, 0.0)
    elif NAME == "relu2":
        slope = 2 * tl.maximum(x, 0)
    elif NAME == "silu_clamp10":
        s = tl.sigmoid(x)
        slope = tl.where(x > 10.0, 0.0, s * (1 + x * (1 - s)))
    elif NAME == "swiglu_oai":
        s = tl.sigmoid(1.702 * x)
        slope = tl.where(x > 7.0, 0.0, s * (1 + 1.702 * x * (1 - s)))
    elif NAME == "identity":
        slope = tl.full(x.shape, 1.0, tl.float32)
    else:
        tl.static_assert(NAME == "situ")
        s = tl.sigmoid(x)
        t = tanh(0.25 * x)
        slope = s * (1 - t * t + 4.0 * t * (1 - s))
    return slope


@triton.jit
def up_factor(x, NAME: tl.constexpr):
    """Return the factor of the up half: the half itself, unless the activation changes it too."""
    if NAME == "silu_clamp10":
        x = tl.where(x > 10.0, 10.0, tl.where(x < -10.0, -10.0, x))
    elif NAME == "swiglu_oai":
        x = tl.where(x > 7.0, 7.0, tl.where(x < -7.0, -7.0, x)) + 1.0
    elif NAME == "situ":
        x = 25.0 * tanh(0.04 * x)
    return x


@triton.jit
def up_slope(x, NAME: tl.constexpr):
    """Return the derivative of `up_factor`, of the activations for which it is not 1."""
    if NAME == "silu_clamp10":
        slope = tl.where(tl.abs(x) > 10.0, 0.0, 1.0)
    elif NAME == "swiglu_oai":
        slope = tl.where(tl.abs(x) > 7.0, 0.0, 1.0)
    else:
        tl.static_assert(NAME == "situ")
        t = tanh(0.04 * x)
        slope = 1 - t * t
    return slope


@triton.jit
def tanh(x):
    """Return the hyperbolic tangent, to the precision of float32: by its series near 0, where the quotient cancels."""
    square = x * x
    series = x * (1 - square * (0.33333333 - square * (0.13333333 - square * (0.05396825 - square * 0.02186949))))
    e = tl.exp(-2 * tl.abs(x))
    quotient = (1 - e) / (1 + e)
    return tl.where(square < 0.0625, series, tl.where(x < 0, -quotient, quotient))
