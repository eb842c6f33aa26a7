"""Triton kernels of the routers that are a `TopkRule`: experts and gates from logits, and the gradient back.

A program has some tokens T. Experts lie in a tile of G groups of S, one group when the rule has none, so that neither
number needs to be a power of 2. Selection scores are computed in float64 and rounded: equal logits have equal scores,
as in `topk_rule`. A rank orders experts by key, then by logit; of equal ranks the lower index comes first.
"""

import triton
import triton.language as tl

LARGEST = tl.constexpr(3.4028234663852886e38)
NO_RANK = tl.constexpr(-9223372036854775807)  # below the rank of any number
NAN_HEIGHT = tl.constexpr(0x7FFFFFFF)
FAR = tl.constexpr(-30.0)  # below it softplus(z) is exp(z), and its logarithm z
LAST = tl.constexpr(0x7FFFFFFF)  # above any index


@triton.jit
def height_of(x):
    """Return int32 that are larger for larger float32; NaN is above all numbers, and both zeros are equal."""
    bits = tl.where(x == 0, 0.0, x).to(tl.int32, bitcast=True)
    return tl.where(x != x, NAN_HEIGHT, bits ^ ((bits >> 31) & 0x7FFFFFFF))  # noqa: PLR0124  # NaN


@triton.jit
def number_of(height):
    """Return the float32 of a height."""
    return (height ^ ((height >> 31) & 0x7FFFFFFF)).to(tl.float32, bitcast=True)


@triton.jit
def rank_of(key, logit):
    """Return int64 that are larger for larger keys, and of equal keys for larger logits."""
    return (height_of(key).to(tl.int64) << 32) + (height_of(logit).to(tl.int64) + 0x80000000)


@triton.jit
def logit_of(rank):
    """Return the logit in a rank."""
    return number_of(((rank & 0xFFFFFFFF) - 0x80000000).to(tl.int32))


@triton.jit
def finite(x):
    """Return the largest finite float32 in place of infinity."""
    return tl.where(x > LARGEST, LARGEST, tl.where(x < -LARGEST, -LARGEST, x))


@triton.jit
def log1p_exp(x):
    """Return log(1 + exp x) for x up to 0 in float64, precise where exp x is small."""
    w = tl.exp(x)
    u = 1.0 + w
    # The rounding error of 1 + w cancels in the quotient.
    return tl.where(u == 1.0, w, tl.log(u) * w / tl.where(u == 1.0, 1.0, u - 1.0))


@triton.jit
def softplus(z):
    """Return log(1 + exp z) in float64."""
    return tl.where(z > 0, z, 0.0) + log1p_exp(-tl.abs(z))


@triton.jit
def logistic(z):
    """Return 1 / (1 + exp(-z)) in float64."""
    w = tl.exp(-tl.abs(z))
    return tl.where(z > 0, 1.0, w) / (1.0 + w)


@triton.jit
def log_score(z, SCORE: tl.constexpr):
    """Return the logarithm of a score in float64; of a softmax over the chosen it is the logit."""
    if SCORE == "softmax":
        return z
    if SCORE == "sigmoid":
        return -softplus(-z)
    return tl.where(z < FAR, z, tl.log(softplus(tl.where(z < FAR, 0.0, z)))) / 2.0


@triton.jit
def slope_of_log_score(z, SCORE: tl.constexpr):
    """Return the derivative of the logarithm of a score."""
    if SCORE == "softmax":
        return tl.full(z.shape, 1.0, tl.float64)
    if SCORE == "sigmoid":
        return logistic(-z)
    return tl.where(z < FAR, 0.5, 0.5 * logistic(z) / softplus(tl.where(z < FAR, 0.0, z)))


@triton.jit
def largest(x_TGS):
    """Return the largest value of every token."""
    return tl.max(tl.max(x_TGS, 2), 1)


@triton.jit
def total(x_TGS):
    """Return the sum of every token's values."""
    return tl.sum(tl.sum(x_TGS, 2), 1)


@triton.jit
def score_of(z_TGS, real_TGS, SCORE: tl.constexpr):
    """Return the selection scores of finite logits in float32, those of one token in all groups."""
    wide_TGS = z_TGS.to(tl.float64)
    if SCORE == "softmax":
        top_T = largest(tl.where(real_TGS, wide_TGS, -LARGEST))
        p_TGS = tl.where(real_TGS, tl.exp(wide_TGS - top_T[:, None, None]), 0.0)
        score_TGS = p_TGS / total(p_TGS)[:, None, None]
    elif SCORE == "sigmoid":
        score_TGS = logistic(wide_TGS)
    else:
        score_TGS = tl.sqrt(softplus(wide_TGS))
    return score_TGS.to(tl.float32)


@triton.jit
def in_kept_groups(
    key_TGS, rank_TGS, g_G, s_S, GROUPS: tl.constexpr, TOP_GROUPS: tl.constexpr, GROUP_BEST: tl.constexpr
):  # fmt: skip
    """Return the keys of the groups whose best keys have the largest sums, and minus infinity for the other groups."""
    sum_TG = tl.zeros((key_TGS.shape[0], key_TGS.shape[1]), tl.float32)
    for _ in tl.static_range(GROUP_BEST):
        best_TG = tl.max(rank_TGS, 2)
        sum_TG += number_of((best_TG >> 32).to(tl.int32))
        at_TG = tl.min(tl.where(rank_TGS == best_TG[:, :, None], s_S[None, None, :], LAST), 2)
        rank_TGS = tl.where(s_S[None, None, :] == at_TG[:, :, None], NO_RANK, rank_TGS)
    left_TG = tl.where((g_G < GROUPS)[None, :], height_of(sum_TG).to(tl.int64), NO_RANK)
    for _ in tl.static_range(TOP_GROUPS):
        at_T = tl.min(tl.where(left_TG == tl.max(left_TG, 1)[:, None], g_G[None, :], LAST), 1)
        left_TG = tl.where(g_G[None, :] == at_T[:, None], NO_RANK, left_TG)
    # An expert of minus infinity in a kept group still comes before all of the groups that are left out.
    least_TGS = tl.where(key_TGS < -LARGEST, -LARGEST, key_TGS)
    return tl.where((left_TG == NO_RANK)[:, :, None], least_TGS, -float("inf"))


@triton.jit
def share_of(logit_TK, counts_TK, shared_TH, counts_TH, SCORE: tl.constexpr):
    """Return the largest log score of the chosen and shared experts of every token, and Σ s in units of its score."""
    log_TK = log_score(finite(logit_TK).to(tl.float64), SCORE)
    log_TH = log_score(finite(shared_TH).to(tl.float64), SCORE)
    unit_T = tl.max(tl.where(counts_TK, log_TK, -float("inf")), 1)
    unit_T = tl.maximum(unit_T, tl.max(tl.where(counts_TH, log_TH, -float("inf")), 1))
    sum_T = tl.sum(tl.where(counts_TK, tl.exp(log_TK - unit_T[:, None]), 0.0), 1)
    return unit_T, sum_T + tl.sum(tl.where(counts_TH, tl.exp(log_TH - unit_T[:, None]), 0.0), 1)


@triton.jit
def gates_of_all(logit_TK, z_TGS, real_TGS, shared_TH, counts_TH, SCALE: tl.constexpr):
    """Return the probabilities of the chosen among all experts, times SCALE."""
    top_T = tl.max(tl.where(counts_TH, finite(shared_TH), -LARGEST), 1)
    top_T = tl.maximum(top_T, largest(tl.where(real_TGS, finite(z_TGS), -LARGEST)))
    sum_T = total(tl.where(real_TGS, tl.exp(finite(z_TGS) - top_T[:, None, None]), 0.0))
    sum_T += tl.sum(tl.where(counts_TH, tl.exp(finite(shared_TH) - top_T[:, None]), 0.0), 1)
    return tl.exp(finite(logit_TK) - top_T[:, None]) / sum_T[:, None] * SCALE


@triton.jit
def gates_of_chosen(
    logit_TK, counts_TK, shared_TH, counts_TH, SCORE: tl.constexpr, RENORMALISE: tl.constexpr, SCALE: tl.constexpr
):  # fmt: skip
    """Return the scores of the chosen, divided by their sum with the shared ones if RENORMALISE, times SCALE."""
    log_TK = log_score(finite(logit_TK).to(tl.float64), SCORE)
    if RENORMALISE:
        unit_T, sum_T = share_of(logit_TK, counts_TK, shared_TH, counts_TH, SCORE)
        gate_TK = tl.exp(log_TK - unit_T[:, None]) / sum_T[:, None]
    else:
        gate_TK = tl.exp(log_TK)
    return (gate_TK * SCALE).to(tl.float32)


@triton.jit
def load_shared(
    logits, t_T, tokens, COLUMNS: tl.constexpr, SHARED: tl.constexpr, BLOCK_H: tl.constexpr
):  # fmt: skip
    """Return the logits of the shared experts, the last SHARED columns, and which of a block are of one."""
    h_H = tl.arange(0, BLOCK_H)
    counts_TH = (h_H < SHARED)[None, :] & (t_T < tokens)[:, None]
    at_TH = logits + t_T[:, None] * COLUMNS + COLUMNS - SHARED + h_H[None, :]
    return tl.load(at_TH, mask=counts_TH, other=0.0), counts_TH


@triton.jit
def choose_experts(
    logits, bias, ids, gates, tokens,
    COLUMNS: tl.constexpr, SHARED: tl.constexpr, CHOSEN: tl.constexpr, GROUPS: tl.constexpr, TOP_GROUPS: tl.constexpr,
    GROUP_BEST: tl.constexpr, SCORE: tl.constexpr, BY_SCORES: tl.constexpr, RENORMALISE: tl.constexpr,
    SCALE: tl.constexpr, BLOCK_T: tl.constexpr, BLOCK_G: tl.constexpr, BLOCK_S: tl.constexpr, BLOCK_K: tl.constexpr,
    BLOCK_H: tl.constexpr,
):  # fmt: skip
    """Write ids and gates (tokens, CHOSEN) for logits (tokens, COLUMNS), the last SHARED of them of shared experts."""
    SIZE: tl.constexpr = (COLUMNS - SHARED) // GROUPS
    t_T = tl.program_id(0).to(tl.int64) * BLOCK_T + tl.arange(0, BLOCK_T)
    g_G = tl.arange(0, BLOCK_G)
    s_S = tl.arange(0, BLOCK_S)
    k_K = tl.arange(0, BLOCK_K)
    e_TGS = (g_G[:, None] * SIZE + s_S[None, :])[None, :, :]
    real_TGS = ((g_G < GROUPS)[:, None] & (s_S < SIZE)[None, :])[None, :, :]
    inside_TGS = real_TGS & (t_T < tokens)[:, None, None]
    z_TGS = tl.load(logits + t_T[:, None, None] * COLUMNS + e_TGS, mask=inside_TGS, other=-float("inf"))

    key_TGS = z_TGS
    if BY_SCORES:
        key_TGS = score_of(finite(z_TGS), real_TGS, SCORE)
    if bias is not None:
        key_TGS += tl.load(bias + e_TGS, mask=real_TGS, other=0.0)
    key_TGS = tl.where(z_TGS < -LARGEST, z_TGS, key_TGS)
    rank_TGS = tl.where(real_TGS, rank_of(key_TGS, z_TGS), NO_RANK)
    if GROUPS > 1:
        key_TGS = in_kept_groups(key_TGS, rank_TGS, g_G, s_S, GROUPS, TOP_GROUPS, GROUP_BEST)
        rank_TGS = tl.where(real_TGS, rank_of(key_TGS, z_TGS), NO_RANK)

    id_TK = tl.zeros((BLOCK_T, BLOCK_K), tl.int32)
    logit_TK = tl.zeros((BLOCK_T, BLOCK_K), tl.float32)
    for k in tl.range(CHOSEN):
        best_T = largest(rank_TGS)
        at_T = tl.min(tl.min(tl.where(rank_TGS == best_T[:, None, None], e_TGS, LAST), 2), 1)
        rank_TGS = tl.where((e_TGS == at_T[:, None, None]) & real_TGS, NO_RANK, rank_TGS)
        id_TK = tl.where((k_K == k)[None, :], at_T[:, None], id_TK)
        logit_TK = tl.where((k_K == k)[None, :], logit_of(best_T)[:, None], logit_TK)

    counts_TK = (k_K < CHOSEN)[None, :]
    shared_TH, counts_TH = load_shared(logits, t_T, tokens, COLUMNS, SHARED, BLOCK_H)
    if SCORE == "softmax" and not RENORMALISE:
        gate_TK = gates_of_all(logit_TK, z_TGS, real_TGS, shared_TH, counts_TH, SCALE)
    else:
        gate_TK = gates_of_chosen(logit_TK, counts_TK, shared_TH, counts_TH, SCORE, RENORMALISE, SCALE)
    out_TK = t_T[:, None] * CHOSEN + k_K[None, :]
    stored_TK = counts_TK & (t_T < tokens)[:, None]
    tl.store(ids + out_TK, id_TK, mask=stored_TK)
    tl.store(gates + out_TK, gate_TK, mask=stored_TK)


@triton.jit
def differentiate_gates(
    logits, ids, gates, dgates, dlogits, tokens,
    COLUMNS: tl.constexpr, SHARED: tl.constexpr, CHOSEN: tl.constexpr, SCORE: tl.constexpr, RENORMALISE: tl.constexpr,
    SCALE: tl.constexpr, BLOCK_T: tl.constexpr, BLOCK_C: tl.constexpr, BLOCK_K: tl.constexpr, BLOCK_H: tl.constexpr,
):  # fmt: skip
    """Write dlogits (tokens, COLUMNS) from dgates (tokens, CHOSEN), with what `choose_experts` was given and found."""
    t_T = tl.program_id(0).to(tl.int64) * BLOCK_T + tl.arange(0, BLOCK_T)
    c_C = tl.arange(0, BLOCK_C)
    k_K = tl.arange(0, BLOCK_K)
    inside_TC = (t_T < tokens)[:, None] & (c_C < COLUMNS)[None, :]
    chosen_TK = (t_T < tokens)[:, None] & (k_K < CHOSEN)[None, :]
    z_TC = tl.load(logits + t_T[:, None] * COLUMNS + c_C[None, :], mask=inside_TC, other=-float("inf"))
    out_TK = t_T[:, None] * CHOSEN + k_K[None, :]
    id_TK = tl.load(ids + out_TK, mask=chosen_TK, other=-1)
    gate_TK = tl.load(gates + out_TK, mask=chosen_TK, other=0.0).to(tl.float64)
    dgate_TK = tl.load(dgates + out_TK, mask=chosen_TK, other=0.0).to(tl.float64)
    logit_TK = tl.load(logits + t_T[:, None] * COLUMNS + id_TK, mask=chosen_TK, other=0.0)
    total_T = tl.sum(gate_TK * dgate_TK, 1)

    given_TK = gate_TK * dgate_TK
    if RENORMALISE:
        given_TK -= gate_TK / SCALE * total_T[:, None]
    given_TK *= slope_of_log_score(finite(logit_TK).to(tl.float64), SCORE)

    drow_TC = tl.zeros((BLOCK_T, BLOCK_C), tl.float64)
    if SCORE == "softmax" and not RENORMALISE:
        top_T = tl.max(tl.where(inside_TC, finite(z_TC), -LARGEST), 1)
        p_TC = tl.where(inside_TC, tl.exp(finite(z_TC) - top_T[:, None]), 0.0)
        drow_TC -= (p_TC / tl.sum(p_TC, 1)[:, None]).to(tl.float64) * total_T[:, None]
    if RENORMALISE and SHARED > 0:
        shared_TH, counts_TH = load_shared(logits, t_T, tokens, COLUMNS, SHARED, BLOCK_H)
        unit_T, sum_T = share_of(logit_TK, (k_K < CHOSEN)[None, :], shared_TH, counts_TH, SCORE)
        wide_TC = finite(z_TC).to(tl.float64)
        share_TC = tl.exp(log_score(wide_TC, SCORE) - unit_T[:, None]) / sum_T[:, None]
        taken_TC = share_TC * total_T[:, None] * slope_of_log_score(wide_TC, SCORE)
        drow_TC -= tl.where((c_C >= COLUMNS - SHARED)[None, :], taken_TC, 0.0)
    for k in tl.range(CHOSEN):
        here_TK = (k_K == k)[None, :]
        id_T = tl.sum(tl.where(here_TK, id_TK, 0), 1)
        given_T = tl.sum(tl.where(here_TK, given_TK, 0.0), 1)
        drow_TC += tl.where(c_C[None, :] == id_T[:, None], given_T[:, None], 0.0)
    drow_TC = tl.where(finite(z_TC) == z_TC, drow_TC, 0.0)  # an infinite logit does not move
    tl.store(dlogits + t_T[:, None] * COLUMNS + c_C[None, :], drow_TC.to(tl.float32), mask=inside_TC)
