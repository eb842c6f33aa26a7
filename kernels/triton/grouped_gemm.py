"""The grouped product: every tile of rows belongs to one expert and is multiplied by that expert's weights.

One loop (`multiply`) serves all layouts by constexprs: rows gathered by route or standing in a buffer, loaded by
pointer or by tensor descriptor, hidden rows one after the other or in the blocks of a block-sparse matrix, weights
contracted along either side. Three kernels wrap it, one for each thing that is done with a tile before it is stored. A
program takes tile after tile; with as many programs as tiles there is one for each.

Rows and experts are addressed with 64 bits: T * D, N * U and E * U * D may pass 2^31.
"""

import triton
import triton.language as tl

from .tile_ops import (
    act,
    act_slope,
    cells,
    dot,
    eighths,
    follow,
    halve,
    narrow,
    place,
    rows_of,
    up_factor,
    up_slope,
)


@triton.jit
def multiply(
    a, row_M, stands_M, first_row, a_row, a_col, b, e, n0, b_expert, b_n, b_k, k_first, k_end,
    N: tl.constexpr, K: tl.constexpr, HALVES: tl.constexpr, B_NK: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr,
    SIDE: tl.constexpr, A_TILED: tl.constexpr, B_TILED: tl.constexpr, PRECISION: tl.constexpr, UPCAST: tl.constexpr,
):  # fmt: skip
    """Compute one float32 tile (BLOCK_M, BLOCK_N) of rows times the weights of expert e, from column n0 on.

    With two HALVES the left half of the tile are the columns from n0 on, the right half those N further on: gate and up
    projection come out of one product. With a SIDE, A stands in blocks (`cells`). A descriptor of A reads on past the
    rows that stand.
    """
    acc_MN = tl.zeros((BLOCK_M, BLOCK_N), tl.float32)
    k_K = tl.arange(0, BLOCK_K)
    if not A_TILED:
        a_M = a + row_M * a_row
    for k0 in tl.range(k_first, k_end, BLOCK_K):
        if A_TILED and SIDE == 0:
            a_MK = a.load([first_row, k0])
        elif A_TILED:
            a_MK = a.load([first_row // SIDE * (K // SIDE) + k0 // SIDE, 0, k0 % SIDE]).reshape(BLOCK_M, BLOCK_K)
        elif SIDE != 0:
            inside_MK = stands_M[:, None] & (k0 + k_K < K)[None, :]
            a_MK = tl.load(cells(a, first_row, tl.arange(0, BLOCK_M), k0 + k_K, K, SIDE), mask=inside_MK, other=0.0)
        elif K % BLOCK_K == 0:
            a_MK = tl.load(a_M[:, None] + (k0 + k_K).to(tl.int64)[None, :] * a_col, mask=stands_M[:, None], other=0.0)
        else:
            inside_MK = stands_M[:, None] & (k0 + k_K < K)[None, :]
            a_MK = tl.load(a_M[:, None] + (k0 + k_K).to(tl.int64)[None, :] * a_col, mask=inside_MK, other=0.0)
        b_KN = weight_tile(b, e, n0, k0, b_expert, b_n, b_k, N, K, HALVES, B_NK, BLOCK_N, BLOCK_K, B_TILED)
        acc_MN = dot(a_MK, b_KN, acc_MN, PRECISION, UPCAST)
    return acc_MN


@triton.jit
def weight_tile(
    b, e, n0, k0, b_expert, b_n, b_k, N: tl.constexpr, K: tl.constexpr, HALVES: tl.constexpr, B_NK: tl.constexpr,
    BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr, B_TILED: tl.constexpr,
):  # fmt: skip
    """Load (BLOCK_K, BLOCK_N) of the weights of expert e, stored as (HALVES * N, K) when B_NK, else as (K, N)."""
    if B_TILED:
        if B_NK:
            b_KN = b.load([e.to(tl.int32), 0, n0, k0]).reshape(BLOCK_N, BLOCK_K).T
        else:
            b_KN = b.load([e.to(tl.int32), k0, n0]).reshape(BLOCK_K, BLOCK_N)
    else:
        WIDTH: tl.constexpr = BLOCK_N // HALVES
        i_N = tl.arange(0, BLOCK_N)
        n_N = n0 + i_N % WIDTH
        row_N = i_N // WIDTH * N + n_N
        k_K = k0 + tl.arange(0, BLOCK_K)
        pointer = b + e * b_expert + k_K.to(tl.int64)[:, None] * b_k + row_N.to(tl.int64)[None, :] * b_n
        if N % WIDTH == 0 and K % BLOCK_K == 0:
            b_KN = tl.load(pointer)
        else:
            b_KN = tl.load(pointer, mask=(k_K[:, None] < K) & (n_N[None, :] < N), other=0.0)
    return b_KN


@triton.jit
def tile_of_rows(m, expert_M, block_M, base_E, counts_E, route_R, CHOSEN: tl.constexpr, GATHER: tl.constexpr,
                 BLOCK_M: tl.constexpr):  # fmt: skip
    """Return expert, first row, all rows, a mask of those in use, and the rows to read: tokens when GATHERED."""
    e, first, stand = rows_of(m, expert_M, block_M, base_E, counts_E, BLOCK_M)
    i_M = tl.arange(0, BLOCK_M)
    row_M = (first + i_M).to(tl.int64)
    stands_M = i_M < stand
    source_M = row_M
    if GATHER:
        source_M = tl.load(route_R + row_M, mask=stands_M, other=0).to(tl.int64) // CHOSEN
    return e, first, row_M, stands_M, source_M


@triton.jit
def up(
    x, w, x_scales, w_scales, bias, a, h, expert_M, block_M, tiles, base_E, counts_E, route_R,
    x_row, x_col, w_expert, w_row, w_col,
    D: tl.constexpr, F: tl.constexpr, CHOSEN: tl.constexpr, GATHER: tl.constexpr, GATED: tl.constexpr,
    ACTIVATION: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr,
    GROUP_M: tl.constexpr, SIDE: tl.constexpr, A_TILED: tl.constexpr, B_TILED: tl.constexpr, FLATTEN: tl.constexpr,
    SPECIALISE: tl.constexpr, PDL: tl.constexpr, PRECISION: tl.constexpr, UPCAST: tl.constexpr,
):  # fmt: skip
    """Compute a (R, F) = act(x W_up[e]^T + bias), gated or not; h (R, U) takes the pre-activations unless it is None.

    Scales, where there are any, are those of tokens (T,) and of weights (E, U).
    """
    HALVES: tl.constexpr = 2 if GATED else 1
    COLUMNS: tl.constexpr = BLOCK_N // HALVES
    TILES_N: tl.constexpr = (F + COLUMNS - 1) // COLUMNS
    follow(PDL)
    used = tl.load(tiles)
    for tile in tl.range(
        tl.program_id(0), used * TILES_N, tl.num_programs(0), flatten=FLATTEN, warp_specialize=SPECIALISE
    ):
        m, n = place(tile, used, TILES_N, GROUP_M)
        e, first, row_M, stands_M, source_M = tile_of_rows(
            m, expert_M, block_M, base_E, counts_E, route_R, CHOSEN, GATHER, BLOCK_M
        )
        h_MN = multiply(
            x, source_M, stands_M, first, x_row, x_col, w, e, n * COLUMNS, w_expert, w_row, w_col, 0, D,
            F, D, HALVES, True, BLOCK_M, BLOCK_N, BLOCK_K, 0, A_TILED, B_TILED, PRECISION, UPCAST,
        )  # fmt: skip
        if x_scales is not None:
            token_M = tl.load(route_R + row_M, mask=stands_M, other=0).to(tl.int64) // CHOSEN
            h_MN *= tl.load(x_scales + token_M, mask=stands_M, other=0.0)[:, None]
        first_half, second_half = halve(h_MN)
        if GATED:
            gate_left, gate_right = halve(first_half)
            up_left, up_right = halve(second_half)
        else:
            gate_left, gate_right = first_half, second_half
            up_left, up_right = gate_left, gate_right
        n_N = n * COLUMNS + tl.arange(0, COLUMNS // 2)
        activate(gate_left, up_left, e, n_N, first, stands_M, w_scales, bias, a, h, F, SIDE, GATED, ACTIVATION, UPCAST)
        n_N += COLUMNS // 2
        activate(
            gate_right, up_right, e, n_N, first, stands_M, w_scales, bias, a, h, F, SIDE, GATED, ACTIVATION, UPCAST
        )


@triton.jit
def activate(
    gate_MN, up_MN, e, n_N, first, stands_M, w_scales, bias, a, h,
    F: tl.constexpr, SIDE: tl.constexpr, GATED: tl.constexpr, ACTIVATION: tl.constexpr, UPCAST: tl.constexpr,
):  # fmt: skip
    """Scale, add the bias, activate and store some columns of `up`; whole blocks are stored, padding rows included."""
    U: tl.constexpr = 2 * F if GATED else F
    i_M = tl.arange(0, gate_MN.shape[0])
    stored_MN = (n_N < F)[None, :]
    if SIDE == 0:
        stored_MN &= stands_M[:, None]
    if w_scales is not None:
        gate_MN *= tl.load(w_scales + e * U + n_N, mask=n_N < F, other=0.0)[None, :]
        if GATED:
            up_MN *= tl.load(w_scales + e * U + F + n_N, mask=n_N < F, other=0.0)[None, :]
    if bias is not None:
        gate_MN += tl.load(bias + e * U + n_N, mask=n_N < F, other=0.0).to(tl.float32)[None, :]
        if GATED:
            up_MN += tl.load(bias + e * U + F + n_N, mask=n_N < F, other=0.0).to(tl.float32)[None, :]
    if h is not None:
        tl.store(cells(h, first, i_M, n_N, U, SIDE), narrow(gate_MN, h, UPCAST), mask=stored_MN)
        if GATED:
            tl.store(cells(h, first, i_M, F + n_N, U, SIDE), narrow(up_MN, h, UPCAST), mask=stored_MN)
    a_MN = act(gate_MN, ACTIVATION)
    if GATED:
        a_MN *= up_factor(up_MN, ACTIVATION)
    tl.store(cells(a, first, i_M, n_N, F, SIDE), narrow(a_MN, a, UPCAST), mask=stored_MN)


@triton.jit
def down(
    a, w, a_scales, w_scales, bias, gates, y, expert_M, block_M, tiles, base_E, counts_E, route_R,
    a_row, w_expert, w_n, w_k, y_rows,
    N: tl.constexpr, K: tl.constexpr, W_NK: tl.constexpr, SCATTER: tl.constexpr, SPLITS: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr, GROUP_M: tl.constexpr,
    SIDE: tl.constexpr, A_TILED: tl.constexpr, B_TILED: tl.constexpr, FLATTEN: tl.constexpr, SPECIALISE: tl.constexpr,
    PDL: tl.constexpr, PRECISION: tl.constexpr, UPCAST: tl.constexpr,
):  # fmt: skip
    """Compute y = gate * (a W[e] + bias): rows of the buffer times weights (N, K) when W_NK, else (K, N).

    Stored where the row stands, or at its route when SCATTER. With several SPLITS each takes a share of the
    contraction and stores its part ``y_rows`` rows after the one before. Serves the down projection and, without bias
    and gates, the gradient of the tokens. Scales, where there are any, are those of rows (R,) and of weights (E, N).
    """
    TILES_N: tl.constexpr = (N + BLOCK_N - 1) // BLOCK_N
    SHARE: tl.constexpr = ((K + BLOCK_K - 1) // BLOCK_K + SPLITS - 1) // SPLITS * BLOCK_K
    follow(PDL)
    used = tl.load(tiles)
    for turn in tl.range(
        tl.program_id(0), used * TILES_N * SPLITS, tl.num_programs(0), flatten=FLATTEN, warp_specialize=SPECIALISE
    ):
        split = turn % SPLITS
        m, n = place(turn // SPLITS, used, TILES_N, GROUP_M)
        e, first, row_M, stands_M, source_M = tile_of_rows(
            m, expert_M, block_M, base_E, counts_E, route_R, 1, False, BLOCK_M
        )
        y_MN = multiply(
            a, source_M, stands_M, first, a_row, 1, w, e, n * BLOCK_N, w_expert, w_n, w_k,
            split * SHARE, tl.minimum(K, (split + 1) * SHARE),
            N, K, 1, W_NK, BLOCK_M, BLOCK_N, BLOCK_K, SIDE, A_TILED, B_TILED, PRECISION, UPCAST,
        )  # fmt: skip
        n_N = n * BLOCK_N + tl.arange(0, BLOCK_N)
        if a_scales is not None:
            y_MN *= tl.load(a_scales + row_M, mask=stands_M, other=0.0)[:, None]
            y_MN *= tl.load(w_scales + e * N + n_N, mask=n_N < N, other=0.0)[None, :]
        if bias is not None:
            if split == 0:
                y_MN += tl.load(bias + e * N + n_N, mask=n_N < N, other=0.0).to(tl.float32)[None, :]
        target_M = row_M
        if SCATTER or gates is not None:
            route_M = tl.load(route_R + row_M, mask=stands_M, other=0).to(tl.int64)
            if gates is not None:
                y_MN *= tl.load(gates + route_M, mask=stands_M, other=0.0)[:, None]
            if SCATTER:
                target_M = route_M
        y_tile = y + (target_M + split * y_rows)[:, None] * N + n_N[None, :]
        tl.store(y_tile, narrow(y_MN, y, UPCAST), mask=stands_M[:, None] & (n_N < N)[None, :])


@triton.jit
def down_backward(
    dy, w, h, gates, dh, ga, dgates, expert_M, block_M, tiles, base_E, counts_E, route_R,
    dy_row, dy_col, w_expert, w_k, w_n, dgates_tile,
    D: tl.constexpr, F: tl.constexpr, CHOSEN: tl.constexpr, GATHER: tl.constexpr, GATED: tl.constexpr,
    ACTIVATION: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr,
    GROUP_M: tl.constexpr, SIDE: tl.constexpr, A_TILED: tl.constexpr, B_TILED: tl.constexpr, SPECIALISE: tl.constexpr,
    PRECISION: tl.constexpr, UPCAST: tl.constexpr,
):  # fmt: skip
    """Compute dh (R, U), gate * a (R, F) and parts of dgates from dy and the pre-activations h (R, U), in one pass.

    The gradient of a gate weight is <a, dy W_down>, so the output of the down projection is not needed (SonicMoE, Guo
    et al. 2025); each column tile stores its part of that sum at dgates + n * dgates_tile, by route.
    """
    TILES_N: tl.constexpr = (F + BLOCK_N - 1) // BLOCK_N
    used = tl.load(tiles)
    for tile in tl.range(tl.program_id(0), used * TILES_N, tl.num_programs(0), warp_specialize=SPECIALISE):
        m, n = place(tile, used, TILES_N, GROUP_M)
        e, first, row_M, stands_M, source_M = tile_of_rows(
            m, expert_M, block_M, base_E, counts_E, route_R, CHOSEN, GATHER, BLOCK_M
        )
        da_MN = multiply(
            dy, source_M, stands_M, first, dy_row, dy_col, w, e, n * BLOCK_N, w_expert, w_n, w_k, 0, D,
            F, D, 1, False, BLOCK_M, BLOCK_N, BLOCK_K, 0, A_TILED, B_TILED, PRECISION, UPCAST,
        )  # fmt: skip
        route_M = tl.load(route_R + row_M, mask=stands_M, other=0).to(tl.int64)
        g_M1 = tl.load(gates + route_M, mask=stands_M, other=0.0)[:, None]
        n_N = n * BLOCK_N + tl.arange(0, BLOCK_N // 8)
        part_M = tl.zeros((BLOCK_M,), tl.float32)
        parts = eighths(da_MN)
        for i in tl.static_range(8):
            part_M += activate_backward(
                parts[i], g_M1, n_N, first, stands_M, h, dh, ga, F, SIDE, GATED, ACTIVATION, UPCAST
            )
            n_N += BLOCK_N // 8
        tl.store(dgates + n.to(tl.int64) * dgates_tile + route_M, part_M, mask=stands_M)


@triton.jit
def activate_backward(
    da_MN, g_M1, n_N, first, stands_M, h, dh, ga,
    F: tl.constexpr, SIDE: tl.constexpr, GATED: tl.constexpr, ACTIVATION: tl.constexpr, UPCAST: tl.constexpr,
):  # fmt: skip
    """Store some columns of `down_backward`; return their part of <a, da> for every row.

    Blocks are stored whole, zeros in the rows that pad: products with their transpose sum over all of their rows.
    """
    U: tl.constexpr = 2 * F if GATED else F
    i_M = tl.arange(0, da_MN.shape[0])
    inside_MN = stands_M[:, None] & (n_N < F)[None, :]
    stored_MN = inside_MN if SIDE == 0 else (n_N < F)[None, :]
    gate_MN = tl.load(cells(h, first, i_M, n_N, U, SIDE), mask=inside_MN, other=0.0).to(tl.float32)
    UP_SLOPE: tl.constexpr = (  # Triton has no sets
        ACTIVATION == "silu_clamp10" or ACTIVATION == "swiglu_oai" or ACTIVATION == "situ"  # noqa: PLR1714
    )
    a_MN = act(gate_MN, ACTIVATION)
    slope_MN = act_slope(gate_MN, ACTIVATION)
    if GATED:
        if not UP_SLOPE:
            tl.store(cells(dh, first, i_M, F + n_N, U, SIDE), narrow(g_M1 * da_MN * a_MN, dh, UPCAST), mask=stored_MN)
        up_MN = tl.load(cells(h, first, i_M, F + n_N, U, SIDE), mask=inside_MN, other=0.0).to(tl.float32)
        if UP_SLOPE:
            da_up_MN = da_MN * a_MN * up_slope(up_MN, ACTIVATION)
            tl.store(cells(dh, first, i_M, F + n_N, U, SIDE), narrow(g_M1 * da_up_MN, dh, UPCAST), mask=stored_MN)
            up_MN = up_factor(up_MN, ACTIVATION)
        a_MN *= up_MN
        slope_MN *= up_MN
    tl.store(cells(dh, first, i_M, n_N, U, SIDE), narrow(g_M1 * da_MN * slope_MN, dh, UPCAST), mask=stored_MN)
    tl.store(cells(ga, first, i_M, n_N, F, SIDE), narrow(g_M1 * a_MN, ga, UPCAST), mask=stored_MN)
    return tl.sum(tl.where(inside_MN, a_MN * da_MN, 0.0), 1)
