"""The experts of one rank on rows in expert order, one after the other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, cast

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from ..activations import activate, activate_backward
from ..problem import Problem
from ..tensors import Weights


def expert_products(problem: Problem, rows_MD: Tensor, counts: Sequence[int], weights: Weights) -> Tensor:
    """Each expert on its ``counts`` rows, (M, D); rows after the last expert's give zeros.

    Differentiable in rows and weights even without rows or without experts: a rank that holds neither takes part in
    the backward of the others. Backward keeps the pre-activations and recomputes the rest.
    """
    arguments = (problem, counts, rows_MD, weights.w_up_EUD, weights.w_down_EDF)
    return cast(Tensor, _Products.apply(*arguments))  # type: ignore[no-untyped-call]


def _slices(counts: Sequence[int]) -> Iterator[tuple[int, slice]]:
    end = 0
    for expert, count in enumerate(counts):
        end += count
        yield expert, slice(end - count, end)


class _Products(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, problem: Problem, counts: Sequence[int], rows_MD: Tensor, w_up_EUD: Tensor, w_down_EDF: Tensor
    ) -> Tensor:
        kept = []
        y_MD = torch.empty_like(rows_MD)
        y_MD[sum(counts) :].zero_()
        for e, n in _slices(counts):
            h_nU = rows_MD[n] @ w_up_EUD[e].T
            torch.mm(activate(problem, h_nU), w_down_EDF[e].T, out=y_MD[n])
            if any(ctx.needs_input_grad):
                kept.append(h_nU)
        ctx.problem, ctx.counts = problem, counts
        ctx.save_for_backward(rows_MD, w_up_EUD, w_down_EDF, *kept)
        return y_MD

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy_MD: Tensor) -> tuple[None, None, Tensor, Tensor, Tensor]:
        rows_MD, w_up_EUD, w_down_EDF, *kept = ctx.saved_tensors
        drows_MD, dw_up_EUD, dw_down_EDF = (torch.empty_like(t) for t in (rows_MD, w_up_EUD, w_down_EDF))
        drows_MD[sum(ctx.counts) :].zero_()
        for (e, n), h_nU in zip(_slices(ctx.counts), kept, strict=True):
            torch.mm(dy_MD[n].T, activate(ctx.problem, h_nU), out=dw_down_EDF[e])
            dh_nU = activate_backward(ctx.problem, h_nU, dy_MD[n] @ w_down_EDF[e])
            torch.mm(dh_nU.T, rows_MD[n], out=dw_up_EUD[e])
            torch.mm(dh_nU, w_up_EUD[e], out=drows_MD[n])
        return None, None, drows_MD, dw_up_EUD, dw_down_EDF
