"""Routing in one launch: on a GPU every top-k router runs as one kernel, differentiable in the gates."""

from __future__ import annotations

import importlib
from functools import cache, partial
from typing import Any, Protocol, cast

import torch
from torch import Tensor

from ...common.packages import Unusable, use
from ..cuda import nvrtc
from ..cuda import topk_routing as in_cuda
from ..instruments.stage import stage
from ..problem import draw_routes
from ..problem.router import Router, RouterInputs
from ..problem.routing import Routing
from ..problem.topk_rule import TopkRouter, TopkRule
from ..torch_ops.differentiable_once import differentiable_once


class Backend(Protocol):
    """A module that launches the kernels of a top-k rule; see `cuda.topk_routing`."""

    def fits(self, rule: TopkRule, columns: int) -> bool: ...

    def choose_experts(
        self, rule: TopkRule, logits_TE: Tensor, bias_E: Tensor | None, chosen: int
    ) -> tuple[Tensor, Tensor]: ...

    def differentiate_gates(
        self, rule: TopkRule, logits_TE: Tensor, ids_TK: Tensor, gates_TK: Tensor, dgates_TK: Tensor
    ) -> Tensor: ...


def route(router: Router, inputs: RouterInputs, K: int) -> Routing:
    """Return the routes that a router makes of its inputs, as `draw_routes.route` does.

    On a GPU a router that is a `TopkRule` is one launch: CUDA C++ with CuPy, else Triton. All others, and all of a CPU,
    are operators of torch. Logits of any floating dtype are taken to float32. The gates carry the gradient to the
    logits; their second derivative is refused.

    Raises:
        ValueError: when K is not between 1 and the number of choices, for biases or groups that do not fit these, or
            for a logit on a CPU that is NaN.
    """
    _check(router, inputs, K)
    with stage("route"):
        backend = backend_for(router, inputs.logits_TE)
        if backend is None or not isinstance(router, TopkRouter):
            return draw_routes.route(router, inputs, K)
        return draw_routes.to_experts(router, inputs, fused(backend, router, inputs, K))


def _check(router: Router, inputs: RouterInputs, K: int) -> None:
    """Raise ValueError for what a kernel would read or write outside of its tensors for."""
    rule = router.rule if isinstance(router, TopkRouter) else None
    choices = inputs.logits_TE.shape[1] - (rule.shared if rule else 0)
    if not 1 <= K <= choices:
        raise ValueError(f"K = {K} of {choices} experts: give between 1 and {choices}")
    if inputs.bias_E is not None and inputs.bias_E.shape != (choices,):
        raise ValueError(f"bias_E is {tuple(inputs.bias_E.shape)}: give one bias for each of {choices} experts")
    if rule is None or rule.groups == 1:
        return
    size, left = divmod(choices, rule.groups)
    if left or size < rule.group_best:
        raise ValueError(
            f"{choices} experts do not form {rule.groups} equal groups of {rule.group_best} or more: give other groups"
        )
    if rule.top_groups * size < K:
        raise ValueError(f"K = {K} of {rule.top_groups * size} experts in top_groups: give fewer, or more top_groups")


def fused(backend: Backend, router: TopkRouter, inputs: RouterInputs, K: int) -> tuple[Tensor, Tensor]:
    """Return what `TopkRouter.route` does, by the kernels of a backend."""
    bias_E = router.biases(inputs)
    ids_TK, gates_TK = _TopkRoutes.apply(  # type: ignore[no-untyped-call]
        inputs.logits_TE, None if bias_E is None else bias_E.float().contiguous(), router.rule, K, backend
    )
    return ids_TK, gates_TK


def backend_for(router: Router, logits_TE: Tensor) -> Backend | None:
    """Return what launches the kernels for these logits; None where the router is operators of torch."""
    if not isinstance(router, TopkRouter) or type(router).route is not TopkRouter.route:
        return None
    found: list[Backend] = [cast(Backend, in_cuda)] if nvrtc.usable(logits_TE) else []
    if logits_TE.device.type in ("cuda", "meta") and (in_triton := _in_triton()) is not None:
        launches, is_recording = in_triton
        if logits_TE.is_cuda or is_recording():
            found.append(launches)
    return next((backend for backend in found if backend.fits(router.rule, logits_TE.shape[1])), None)


@cache
def _in_triton() -> tuple[Backend, Any] | None:
    try:
        launches = use("triton", partial(importlib.import_module, ".router_launches", __package__), remedy="")
    except Unusable:
        return None
    from ..triton.launch import is_recording  # noqa: PLC0415  # Triton may be missing

    return cast(Backend, launches), is_recording


class _TopkRoutes(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, logits_TE: Tensor, bias_E: Tensor | None, rule: TopkRule, chosen: int, backend: Backend
    ) -> tuple[Tensor, Tensor]:
        wide_TE = logits_TE.float().contiguous()
        ids_TK, gates_TK = backend.choose_experts(rule, wide_TE, bias_E, chosen)
        ctx.save_for_backward(wide_TE, ids_TK, gates_TK)
        ctx.mark_non_differentiable(ids_TK)
        ctx.rule, ctx.backend, ctx.dtype = rule, backend, logits_TE.dtype
        return ids_TK, gates_TK

    @staticmethod
    @differentiable_once
    def backward(ctx: Any, _: None, dgates_TK: Tensor) -> tuple[Tensor, None, None, None, None]:
        dlogits_TE = ctx.backend.differentiate_gates(ctx.rule, *ctx.saved_tensors, dgates_TK.contiguous())
        return dlogits_TE.to(ctx.dtype), None, None, None, None
