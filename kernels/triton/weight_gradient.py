"""Gradients of weights and biases: sums over the rows of one expert, in a fixed order, one program for each tile."""

import triton
import triton.language as tl

from .tile_ops import cells, dot, narrow, place


@triton.jit
def columns_of_rows(
    a, rows, first, row_B, stands_B, c0, a_row, a_col, WIDTH: tl.constexpr, BLOCK: tl.constexpr,
    TILED: tl.constexpr,
):  # fmt: skip
    """Load (BLOCK_B, BLOCK) of some rows; elements past the rows in use or past the width are zero."""
    if TILED:
        tile = rows.load([first, c0])
    else:
        c = c0 + tl.arange(0, BLOCK)
        inside = stands_B[:, None] & (c < WIDTH)[None, :]
        tile = tl.load(a + row_B[:, None] * a_row + c[None, :].to(tl.int64) * a_col, mask=inside, other=0.0)
    return tile


@triton.jit
def weight_gradient(
    p, q, dw, base_E, counts_E, route_R, experts, p_row, p_col, q_row, q_col,
    M: tl.constexpr, N: tl.constexpr, CHOSEN: tl.constexpr, GATHER_P: tl.constexpr, GATHER_Q: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_B: tl.constexpr, GROUP_M: tl.constexpr,
    P_TILED: tl.constexpr, Q_TILED: tl.constexpr, PRECISION: tl.constexpr, UPCAST: tl.constexpr,
):  # fmt: skip
    """Compute dw (E, M, N) = sum over the rows r of an expert of p_r^T q_r; zeros for an expert without rows.

    p and q are rows of the buffer, or are gathered by token. Their descriptors are made here, one for an expert, and
    end where its rows end: the hardware fills in the zeros.
    """
    TILES_M: tl.constexpr = (M + BLOCK_M - 1) // BLOCK_M
    TILES_N: tl.constexpr = (N + BLOCK_N - 1) // BLOCK_N
    for tile in tl.range(tl.program_id(0), experts * TILES_M * TILES_N, tl.num_programs(0)):
        e = tile // (TILES_M * TILES_N)
        m, n = place(tile % (TILES_M * TILES_N), TILES_M, TILES_N, GROUP_M)
        m0 = m * BLOCK_M
        n0 = n * BLOCK_N
        first = tl.load(base_E + e)
        end = first + tl.load(counts_E + e)
        p_rows = p
        q_rows = q
        if P_TILED:
            p_rows = tl.make_tensor_descriptor(p, [end, M], [M, 1], [BLOCK_B, BLOCK_M])
        if Q_TILED:
            q_rows = tl.make_tensor_descriptor(q, [end, N], [N, 1], [BLOCK_B, BLOCK_N])
        dw_MN = tl.zeros((BLOCK_M, BLOCK_N), tl.float32)
        for r0 in tl.range(first, end, BLOCK_B):
            row_B = (r0 + tl.arange(0, BLOCK_B)).to(tl.int64)
            stands_B = row_B < end
            token_B = row_B
            if GATHER_P or GATHER_Q:
                token_B = tl.load(route_R + row_B, mask=stands_B, other=0).to(tl.int64) // CHOSEN
            p_BM = columns_of_rows(
                p, p_rows, r0, token_B if GATHER_P else row_B, stands_B, m0, p_row, p_col, M, BLOCK_M, P_TILED
            )
            q_BN = columns_of_rows(
                q, q_rows, r0, token_B if GATHER_Q else row_B, stands_B, n0, q_row, q_col, N, BLOCK_N, Q_TILED
            )
            dw_MN = dot(p_BM.T, q_BN, dw_MN, PRECISION, UPCAST)
        m_M = m0 + tl.arange(0, BLOCK_M)
        n_N = n0 + tl.arange(0, BLOCK_N)
        at_MN = (e * M + m_M).to(tl.int64)[:, None] * N + n_N[None, :]
        tl.store(dw + at_MN, narrow(dw_MN, dw, UPCAST), mask=(m_M < M)[:, None] & (n_N < N)[None, :])


@triton.jit
def bias_gradient(
    p, gates, db, base_E, counts_E, route_R, p_row, p_col,
    N: tl.constexpr, CHOSEN: tl.constexpr, GATHER: tl.constexpr, SIDE: tl.constexpr, BLOCK_B: tl.constexpr,
    BLOCK_N: tl.constexpr, UPCAST: tl.constexpr,
):  # fmt: skip
    """Compute db (E, N) = sum over the rows of an expert, times their gates unless that is None.

    With a SIDE, a multiple of BLOCK_B, p is stored in blocks (`cells`).
    """
    TILES_N: tl.constexpr = (N + BLOCK_N - 1) // BLOCK_N
    e = (tl.program_id(0) // TILES_N).to(tl.int64)
    n_N = tl.program_id(0) % TILES_N * BLOCK_N + tl.arange(0, BLOCK_N)
    first = tl.load(base_E + e)
    end = first + tl.load(counts_E + e)
    db_N = tl.zeros((BLOCK_N,), tl.float32)
    for r0 in tl.range(first, end, BLOCK_B):
        row_B = (r0 + tl.arange(0, BLOCK_B)).to(tl.int64)
        stands_B = row_B < end
        route_B = tl.load(route_R + row_B, mask=stands_B, other=0).to(tl.int64)
        source_B = row_B
        if GATHER:
            source_B = route_B // CHOSEN
        if SIDE == 0:
            p_cells = p + source_B[:, None] * p_row + n_N[None, :].to(tl.int64) * p_col
        else:
            p_cells = cells(p, r0 // SIDE * SIDE, r0 % SIDE + tl.arange(0, BLOCK_B), n_N, N, SIDE)
        p_BN = tl.load(p_cells, mask=stands_B[:, None] & (n_N < N)[None, :], other=0.0).to(tl.float32)
        if gates is not None:
            p_BN *= tl.load(gates + route_B, mask=stands_B, other=0.0)[:, None]
        db_N += tl.sum(p_BN, 0)
    tl.store(db + e * N + n_N, narrow(db_N, db, UPCAST), mask=n_N < N)
