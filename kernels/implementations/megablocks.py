"""MegaBlocks' `ParallelDroplessMLP` with grouped products and given routes (Gale et al. 2022).

Written for megablocks 0.10.0 with grouped_gemm 0.3.0; its block-sparse products refuse to run with Triton 3.2 and
later. It stores every matrix as (E * F, D), the gate and the up projection apart. Weights are converted to that layout
once; in training one copy joins the gradients of gate and up again, and is part of the step.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, cast

import torch
from torch import Tensor
from torch.func import functional_call

from ...common.packages import Release
from ..config import Config
from ..kernel import Layer
from ..problem import Problem
from ..problem.routing import Routing
from ..problem.tensors import Weights
from ..torch_ops.activations import ACTIVATIONS, multiplies_up
from ..torch_ops.differentiable_once import differentiable_once
from ._peer import Once, Peer, Takes, peer_module

BLOCK = 128  # the side of a block-sparse block; its index width is computed for grouped products too


class MegaBlocks(Peer):
    """An adapter that gathers, runs grouped products on CUTLASS, and scatters. It waits for the counts on the host."""

    read_against: ClassVar[Release] = Release("megablocks", "0.10.0", "megablocks/layers/dmoe.py")
    modules = ("megablocks.layers.arguments", "megablocks.layers.dmoe", "grouped_gemm")
    remedy = "pip install 'megablocks[gg]' where its CUDA extension can be compiled"
    takes: ClassVar[Takes] = {"dtype": ("bfloat16",), "bias": (False,)}  # its bias is one for all experts
    step = 8  # rows start on 16 bytes

    def refuses(self, problem: Problem) -> str | None:
        if problem.E * problem.F < BLOCK:
            return f"{self.name} needs {BLOCK} hidden columns of all experts together, E = {problem.E}, F = {problem.F}"
        if not multiplies_up(problem.activation):
            return f"{self.name} multiplies by the up half as it is, which activation = {problem.activation} changes"
        return super().refuses(problem)

    def build(self, problem: Problem, config: Config, device: torch.device) -> Layer:
        arguments, dmoe = (peer_module(name) for name in self.modules[:2])
        experts = dmoe.ParallelDroplessMLP(
            arguments.Arguments(
                hidden_size=problem.D,
                ffn_hidden_size=problem.F,
                bias=False,
                activation_fn=ACTIVATIONS[problem.activation],
                moe_num_experts=problem.E,
                moe_top_k=problem.K,
                moe_loss_weight=0.0,
                mlp_type="glu" if problem.gated else "mlp",
                mlp_impl="grouped",
                fp16=False,
                bf16=True,
                device=torch.device("meta"),  # the weights are ours
            )
        )
        load_up, load_down = Once(_split_up if problem.gated else _rows), Once(_transposed_rows)

        def layer(x_TD: Tensor, routing: Routing, weights: Weights) -> Tensor:
            w_up_EUD, w_down_EDF = weights.w_up_EUD, weights.w_down_EDF
            shape = (problem.E, problem.F, problem.D)
            ups = _as_loaded(w_up_EUD, load_up(w_up_EUD), lambda *d: torch.cat([part.view(shape) for part in d], 1))
            (down,) = _as_loaded(w_down_EDF, load_down(w_down_EDF), lambda d: d.view(shape).transpose(1, 2))
            parameters = {"mlp.w2": down, **dict(zip(("mlp.w1", "mlp.v1"), ups, strict=False))}
            inputs = (x_TD, None, routing.gates_TK, routing.ids_TK)  # the scores are for a loss, which has weight 0
            return cast(Tensor, functional_call(experts, parameters, inputs))

        return layer

    def row_width(self, problem: Problem) -> int:
        forward = 3 * problem.D + problem.U + 2 * problem.F
        return forward + problem.D + problem.U + problem.F if problem.mode == "train" else forward


def _split_up(w_up_EUD: Tensor) -> tuple[Tensor, ...]:
    return tuple(half.flatten(0, 1) for half in w_up_EUD.chunk(2, dim=1))


def _rows(w_up_EUD: Tensor) -> tuple[Tensor, ...]:
    return (w_up_EUD.flatten(0, 1),)


def _transposed_rows(w_down_EDF: Tensor) -> tuple[Tensor, ...]:
    return (w_down_EDF.transpose(1, 2).contiguous().flatten(0, 1),)


def _as_loaded(weight: Tensor, loaded: tuple[Tensor, ...], back: Callable[..., Tensor]) -> tuple[Tensor, ...]:
    return cast(tuple[Tensor, ...], _AsLoaded.apply(back, weight, *loaded))  # type: ignore[no-untyped-call]


class _AsLoaded(torch.autograd.Function):
    """A converted weight that passes gradients to the weight as if the conversion were part of the call."""

    @staticmethod
    def forward(ctx: Any, back: Callable[..., Tensor], _weight: Tensor, *loaded: Tensor) -> tuple[Tensor, ...]:
        ctx.back, ctx.count = back, len(loaded)
        return tuple(part.view_as(part) for part in loaded)

    @staticmethod
    @differentiable_once
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        return None, ctx.back(*gradients), *(None for _ in range(ctx.count))


kernel = MegaBlocks()
