"""Causal attention within sequences of tokens, and what is true of it and of products of single routes."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from ..problem import Problem

if TYPE_CHECKING:
    from torch import Tensor

    from ..problem.routing import Routing


def refuses_attention(problem: Problem, length: int) -> str | None:
    """Return why a problem cannot be of experts that project queries, values or outputs, or None."""
    if problem.mode == "train" and min(problem.T, length) == 1:
        return "has sequences of one token, whose queries have no gradient: give more tokens, or mode = 'forward'"
    if problem.gated or problem.activation != "identity":
        return "has projections for experts: give activation = 'identity', gated = False (a suite file can)"
    if problem.bias:
        return "has projections without biases: give bias = False"
    if problem.capacity_factor is not None:
        return f"drops nothing: leave out capacity_factor = {problem.capacity_factor:g}"
    return None


def attention_flops(tokens: int, length: int, width: int) -> int:
    """Return the FLOPs of scores and weighted sums of one head; a token reads those up to itself in its sequence."""
    whole, rest = divmod(tokens, length)
    pairs = whole * (length * (length + 1) // 2) + rest * (rest + 1) // 2
    return 4 * pairs * width


def attention(q_THF: Tensor, k_THF: Tensor, v_THF: Tensor, length: int) -> Tensor:
    """Compute softmax(q kᵀ / √F) v for every head, causal within sequences of ``length`` tokens, (T, H, F).

    The heads of keys and values may be one for all.
    """
    from torch.nn import functional  # noqa: PLC0415  # problems are made where torch is not wanted

    tokens, heads, _ = q_THF.shape
    sequences = math.ceil(tokens / length)

    def by_head(rows_THF: Tensor) -> Tensor:
        # Behind the last tokens nothing of what fills the sequence is read.
        filled = functional.pad(rows_THF, (0, 0, 0, 0, 0, sequences * length - tokens))
        rows_BHLF: Tensor = filled.unflatten(0, (sequences, length)).transpose(1, 2)
        return rows_BHLF.expand(-1, heads, -1, -1)

    if not tokens:
        return q_THF + k_THF + v_THF
    out_BHLF = functional.scaled_dot_product_attention(by_head(q_THF), by_head(k_THF), by_head(v_THF), is_causal=True)
    out_THF: Tensor = out_BHLF.transpose(1, 2).flatten(0, 1)
    return out_THF[:tokens]


def routing_of(ids_TK: Tensor, gates_TK: Tensor, experts: int) -> Routing:
    """Return routes of one of several views of ids and gates."""
    from ..problem.routing import Routing  # noqa: PLC0415

    return Routing(ids_TK=ids_TK.contiguous(), gates_TK=gates_TK.contiguous(), experts=experts)


def weighted(rows_TKO: Tensor, routing: Routing) -> Tensor:
    """Multiply the row of every route by its gate weight, in float32; that of an absent route may be anything."""
    gates_TK = routing.gates_TK.masked_fill(routing.ids_TK < 0, 0)
    return rows_TKO * gates_TK[..., None]


def true_attention(q_TF: Tensor, k_TF: Tensor, v_TF: Tensor, length: int) -> Tensor:
    """Compute the same of one head in float64, sequence by sequence."""
    import torch  # noqa: PLC0415

    outputs = [v_TF[:0]]
    for first in range(0, len(q_TF), length):
        q_LF, k_LF, v_LF = (rows[first : first + length] for rows in (q_TF, k_TF, v_TF))
        score_LL = (q_LF @ k_LF.T / math.sqrt(q_LF.shape[1])).exp().tril()
        outputs.append(score_LL / score_LL.sum(1, keepdim=True) @ v_LF)
    return torch.cat(outputs)


def true_linear(x_TI: Tensor, ids_TK: Tensor, w_EOI: Tensor) -> Tensor:
    """Compute the product of every route (T, K, O) in float64, expert by expert; zeros where there is no route."""
    import torch  # noqa: PLC0415

    rows_TKO = x_TI.new_zeros(*ids_TK.shape, w_EOI.shape[1])
    for e, w_OI in enumerate(w_EOI):
        token_n, k_n = torch.where(ids_TK == e)
        rows_TKO = rows_TKO.index_put((token_n, k_n), x_TI[token_n] @ w_OI.T)
    return rows_TKO
