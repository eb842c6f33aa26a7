"""GShard's dense dispatch (Lepikhin et al. 2020, algorithm 2): one-hot masks of (T, E, C) and einsums over them.

This is the classical form. Its dispatch costs 4 * T * E * C * D FLOPs a layer, which shows what index dispatch saves.
A mask multiplies every token with zeros for most rows, and zero times NaN is NaN: what is not finite is set apart
before each product, so that it stays in its row. The gradient of a gate weight is summed in float32, of its row only.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn import functional

from ..config import Config
from ..instruments.stage import stage
from ..kernel import Cost, Kernel, Layer
from ..problem import ELEMENT_BYTES, Problem
from ..problem.routing import NO_ROUTE, Routing, queue_positions
from ..problem.tensors import Weights
from ..steps import Step
from ..torch_ops.differentiable_once import differentiable_once
from ..torch_ops.dispatch import Places, gate_gradients, with_zero_token
from .padded import fullest, multiply, places_of


class GShardEinsum(Kernel):
    """Dispatch and combine as matmuls with a one-hot mask."""

    family = "padded"
    drops = True

    def build(self, problem: Problem, config: Config, device: torch.device) -> Layer:
        def layer(x_TD: Tensor, routing: Routing, weights: Weights) -> Tensor:
            with stage("dispatch"):
                position_TK = queue_positions(routing, problem.drop)
                capacity = problem.capacity or fullest(routing)
                kept_TK = (routing.ids_TK != NO_ROUTE) & (position_TK < capacity)
                # Routes that are not kept go to one class more than there are experts and slots, which is cut off.
                expert_TKE = functional.one_hot(routing.ids_TK.long().where(kept_TK, problem.E), problem.E + 1)
                slot_TKC = functional.one_hot(position_TK.where(kept_TK, capacity), capacity + 1)
                expert_TKE, slot_TKC = expert_TKE[..., :-1].to(x_TD.dtype), slot_TKC[..., :-1].to(x_TD.dtype)
                dispatch_TM = torch.einsum("tke,tkc->tec", expert_TKE, slot_TKC).flatten(1)
                places = places_of(routing, kept_TK, position_TK, problem.E, capacity)
            with stage("combine"):
                finite_TK = routing.gates_TK.detach().isfinite()
                gates_TK = routing.gates_TK.detach().where(kept_TK & finite_TK, 0).to(x_TD.dtype)
                broken_T = (kept_TK & ~finite_TK).any(1)
                combine_TM = torch.einsum("tke,tkc->tec", expert_TKE * gates_TK[..., None], slot_TKC).flatten(1)
            with stage("dispatch"):
                x_MD = cast(Tensor, _MaskedDispatch.apply(x_TD, dispatch_TM, places))  # type: ignore[no-untyped-call]
            y_MD = multiply(problem, x_MD, weights, places)
            with stage("combine"):
                return cast(Tensor, _MaskedCombine.apply(y_MD, routing.gates_TK, combine_TM, broken_T, places))  # type: ignore[no-untyped-call]

        return layer

    def cost(self, problem: Problem, config: Config, routing: Routing) -> Cost:
        capacity = problem.capacity or fullest(routing)
        rows = problem.E * capacity
        width = 2 * problem.D + problem.U + 2 * problem.F
        masks = 2 * problem.T * rows * ELEMENT_BYTES[problem.dtype]
        one_hots = problem.N * (problem.E + capacity) * (8 + ELEMENT_BYTES[problem.dtype])
        # Two masks from K one-hots each, then dispatch and combine as (rows, T) x (T, D) products.
        extra = 4 * problem.T * rows * problem.K + 4 * problem.T * rows * problem.D
        return Cost(
            executed_rows=rows,
            extra_flops=extra,
            workspace_bytes=2 * masks + one_hots + 2 * rows * width * ELEMENT_BYTES[problem.dtype],
        )

    def steps(self, problem: Problem, config: Config, routing: Routing, device: torch.device) -> Sequence[Step]:
        if device.type != "cpu":
            return ()
        from ..cost_model.cpu import fresh_bytes
        from ..cost_model.expert_rows import rows_of_experts
        from ..cost_model.torch_steps import QUEUE, TorchSteps, batched_passes

        counts = rows_of_experts(routing)
        capacity = problem.capacity or max(counts)
        step = TorchSteps.of(problem, counts, torch.get_num_threads())
        mask = problem.T * problem.E * capacity * step.element
        times = 3 if step.training else 1
        return [
            *step.expert_mlp(
                step.routes("queue", QUEUE),
                rows=problem.E * capacity,
                matrices=problem.E,
                calls=1,
                passes=batched_passes(capacity),
            ),
            *step.transposed_gradients(),
            # Both masks are made from one-hots, which are written as int64 and converted, and each is multiplied once.
            step.operations(
                "masks",
                20,
                flops=times * self.cost(problem, config, routing).extra_flops,
                bytes=times * (4 * mask + 3 * 8 * problem.N * (problem.E + capacity)),
                fresh=fresh_bytes(mask, mask),
            ),
        ]


class _MaskedDispatch(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x_TD: Tensor, mask_TM: Tensor, places: Places) -> Tensor:
        ctx.mask, ctx.places = mask_TM, places
        return _to_rows(x_TD, mask_TM, places)

    @staticmethod
    @differentiable_once
    def backward(ctx: Any, drows_MD: Tensor) -> tuple[Tensor, None, None]:
        return _to_tokens(drows_MD, ctx.mask, ctx.places), None, None


class _MaskedCombine(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, rows_MD: Tensor, _gates_TK: Tensor, mask_TM: Tensor, broken_T: Tensor, places: Places
    ) -> Tensor:
        """``broken_T`` are the tokens with a gate weight that is not finite, which the mask lacks."""
        ctx.save_for_backward(rows_MD)
        ctx.mask, ctx.broken, ctx.places = mask_TM, broken_T, places
        y_TD = _to_tokens(rows_MD, mask_TM, places)
        return y_TD.masked_fill_(broken_T[:, None], torch.nan) if _some(broken_T) else y_TD

    @staticmethod
    @differentiable_once
    def backward(ctx: Any, dy_TD: Tensor) -> tuple[Tensor, Tensor, None, None, None]:
        (rows_MD,) = ctx.saved_tensors
        dy_MD = with_zero_token(dy_TD).index_select(0, ctx.places.token_M)
        dgates_TK = gate_gradients(rows_MD, dy_MD, ctx.places)
        set_TD = dy_TD.masked_fill(ctx.broken[:, None], torch.nan) if _some(ctx.broken) else dy_TD
        drows_MD = _to_rows(set_TD, ctx.mask, ctx.places)
        return drows_MD, dgates_TK, None, None, None


def _some(broken_T: Tensor) -> bool:
    """Return whether any token may be broken; on a device nobody waits for the answer."""
    return broken_T.device.type != "cpu" or bool(broken_T.any())


def _to_rows(x_TD: Tensor, mask_TM: Tensor, places: Places) -> Tensor:
    """Compute mask.T @ x, in which a row depends on nothing but its token."""
    broken_T = _broken(x_TD)
    if broken_T is None:
        return mask_TM.T @ x_TD
    rows_MD = mask_TM.T @ x_TD.masked_fill(broken_T[:-1, None], 0)
    return rows_MD.masked_fill_(broken_T[places.token_M, None], torch.nan)


def _to_tokens(rows_MD: Tensor, mask_TM: Tensor, places: Places) -> Tensor:
    """Compute mask @ rows, in which a token depends on nothing but its rows."""
    broken_M = _broken(rows_MD)
    if broken_M is None:
        return mask_TM @ rows_MD
    y_TD = mask_TM @ rows_MD.masked_fill(broken_M[:-1, None], 0)
    return y_TD.masked_fill_(broken_M[places.slot_TK].any(1, keepdim=True), torch.nan)


def _broken(rows: Tensor) -> Tensor | None:
    """Return which rows (M, D) hold NaN or Inf, (M + 1,): the last stands for no row. None where no row does.

    Only on a CPU the host looks, at one sum; that of finite numbers may overflow, which is a false alarm.
    """
    if rows.device.type == "cpu" and bool(rows.sum().isfinite()):
        return None
    # Zero times what is not finite is NaN, which differs from every sum.
    return functional.pad((rows * 0).sum(1) != 0, (0, 1))


kernel = GShardEinsum()
