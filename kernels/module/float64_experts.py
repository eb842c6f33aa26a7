"""Experts in float64, for checks of gradients: plain operations of torch, differentiable any number of times.

No kernel runs in float64. The loop is as slow as it is plain; `torch.autograd.gradcheck` needs no more.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ..kernel import Gradients
from ..problem import Problem
from ..problem.routing import Routing, within_capacity
from ..problem.tensors import Weights
from ..torch_ops.activations import activate, activate_backward


class _Rows(NamedTuple):
    """The tokens of one expert, which choice of theirs it is, and their pre-activations."""

    expert: int
    token_n: Tensor
    choice_n: Tensor
    h_nU: Tensor


def float64_experts(problem: Problem, x_TD: Tensor, ids_TK: Tensor, gates_TK: Tensor, weights: Weights) -> Tensor:
    """Return y (T, D); all tensors but the ids are float64. T and K are those of the ids."""
    y_TD = torch.zeros_like(x_TD)
    for rows in _rows(problem, x_TD, ids_TK, gates_TK, weights):
        y_nD = _down(problem, rows, weights) * gates_TK[rows.token_n, rows.choice_n, None]
        y_TD = y_TD.index_add(0, rows.token_n, y_nD)
    return y_TD


def float64_gradients(
    problem: Problem,
    dy_TD: Tensor,
    x_TD: Tensor,
    ids_TK: Tensor,
    gates_TK: Tensor,
    weights: Weights,
    wanted: Sequence[bool],
) -> Gradients:
    """Return the wanted gradients of `float64_experts`."""
    w_up_EUD, w_down_EDF = weights.w_up_EUD, weights.w_down_EDF
    dx_TD, dgates_TK, dw_up_EUD, dw_down_EDF = map(torch.zeros_like, (x_TD, gates_TK, w_up_EUD, w_down_EDF))
    db_up_EU, db_down_ED = (None if b is None else torch.zeros_like(b) for b in (weights.b_up_EU, weights.b_down_ED))
    for rows in _rows(problem, x_TD, ids_TK, gates_TK, weights):
        e, token_n, choice_n, h_nU = rows
        dy_nD, gates_n1 = dy_TD[token_n], gates_TK[token_n, choice_n, None]
        dgates_TK[token_n, choice_n] = (dy_nD * _down(problem, rows, weights)).sum(1)
        dy_nD = dy_nD * gates_n1
        dw_down_EDF[e] = dy_nD.T @ activate(problem, h_nU)
        dh_nU = activate_backward(problem, h_nU, dy_nD @ w_down_EDF[e])
        dw_up_EUD[e] = dh_nU.T @ x_TD[token_n]
        dx_TD.index_add_(0, token_n, dh_nU @ w_up_EUD[e])
        if db_up_EU is not None and db_down_ED is not None:
            db_up_EU[e], db_down_ED[e] = dh_nU.sum(0), dy_nD.sum(0)
    found = (dx_TD, dgates_TK, dw_up_EUD, dw_down_EDF, db_up_EU, db_down_ED)
    return tuple(one if want else None for one, want in zip(found, wanted, strict=True))


def _rows(problem: Problem, x_TD: Tensor, ids_TK: Tensor, gates_TK: Tensor, weights: Weights) -> Iterator[_Rows]:
    """Yield the rows of every expert that the capacity keeps."""
    T, K = ids_TK.shape
    routing = Routing.of_ids(ids_TK, gates_TK.detach().float(), experts=problem.E)
    here = problem.replace(T=T, K=K)
    if here.capacity is not None:
        routing = within_capacity(routing, here.drop, here.capacity)
    for e in range(problem.E):
        token_n, choice_n = torch.where(routing.ids_TK == e)
        h_nU = x_TD[token_n] @ weights.w_up_EUD[e].T
        yield _Rows(e, token_n, choice_n, h_nU if weights.b_up_EU is None else h_nU + weights.b_up_EU[e])


def _down(problem: Problem, rows: _Rows, weights: Weights) -> Tensor:
    y_nD = activate(problem, rows.h_nU) @ weights.w_down_EDF[rows.expert].T
    return y_nD if weights.b_down_ED is None else y_nD + weights.b_down_ED[rows.expert]
