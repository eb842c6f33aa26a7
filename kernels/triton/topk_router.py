"""The top-k softmax router for a GPU: one kernel forward, differentiable in the gates."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from ..cuda import nvrtc
from ..cuda import topk_softmax as cuda
from ..problem.draw_routes import routed
from ..problem.routing import Routing


def topk_softmax(logits_TE: Tensor, chosen: int, *, renormalise: bool) -> Routing:
    """Return routes and gates of the routers ``softmax_topk_renorm`` or, without renormalising, ``softmax_topk``.

    With CUDA and CuPy it is one kernel; elsewhere it is the router itself. Logits of any floating dtype are
    taken to float32. The gates carry the gradient to the logits.

    Raises:
        ValueError: when ``chosen`` is not between 1 and E.
    """
    experts = logits_TE.shape[1]
    if not 1 <= chosen <= experts:
        raise ValueError(f"chosen = {chosen} of {experts} experts: give between 1 and {experts}")
    if not nvrtc.usable(logits_TE):
        return routed("softmax_topk_renorm" if renormalise else "softmax_topk", logits_TE, chosen)
    ids_TK, gates_TK = _TopkSoftmax.apply(logits_TE, chosen, renormalise)  # type: ignore[no-untyped-call]
    return Routing(ids_TK=ids_TK, gates_TK=gates_TK, experts=experts)


class _TopkSoftmax(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, logits_TE: Tensor, chosen: int, renormalise: bool) -> tuple[Tensor, Tensor]:
        ids_TK, gates_TK = cuda.topk_softmax(logits_TE, chosen, renormalise=renormalise)
        ctx.save_for_backward(logits_TE, ids_TK, gates_TK)
        ctx.mark_non_differentiable(ids_TK)
        ctx.renormalise = renormalise
        return ids_TK, gates_TK

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, _: None, dgates_TK: Tensor) -> tuple[Tensor, None, None]:
        """Return the softmax's derivative dl = p * (dp - sum(p * dp)); experts that were not chosen have dp = 0."""
        logits_TE, ids_TK, gates_TK = ctx.saved_tensors
        weighted_TK = gates_TK * dgates_TK
        total_T1 = weighted_TK.sum(1, keepdim=True)
        if ctx.renormalise:
            dlogits_TE = torch.zeros_like(logits_TE, dtype=torch.float32)
            weighted_TK -= gates_TK * total_T1
        else:
            dlogits_TE = torch.softmax(logits_TE.float(), 1).mul_(-total_T1)
        return dlogits_TE.scatter_add_(1, ids_TK.long(), weighted_TK).to(logits_TE.dtype), None, None
