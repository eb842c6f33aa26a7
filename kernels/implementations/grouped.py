"""Rows sorted by expert, one grouped product for all experts, a gather back to tokens.

It uses `torch.nn.functional.grouped_mm`; where torch lacks it, one matmul for each expert that has rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, cast

import torch
from torch import Tensor
from torch.nn import functional

from ..config import Config
from ..instruments.stage import stage
from ..kernel import Cost, Kernel, Layer
from ..problem import ELEMENT_BYTES, Problem
from ..problem.block import RoutedLinear
from ..problem.routing import Groups, Routing, group_by_expert
from ..problem.tensors import Weights
from ..steps import Step
from ..torch_ops.activations import activate
from ..torch_ops.differentiable_once import differentiable_once
from ..torch_ops.dispatch import Places, by_route, combine, dispatch

ALIGNMENT_BYTES = 16  # grouped_mm asks for rows that start on 16 bytes


class Grouped(Kernel):
    """A grouped copy of the input, two grouped products, a gather-sum combine."""

    family = "grouped"
    adds_biases = True
    preference: ClassVar[Mapping[str, int]] = {"cpu": 20, "cuda": 40}

    def refuses(self, problem: Problem) -> str | None:
        return aligned(problem) or super().refuses(problem)

    def build(self, problem: Problem, config: Config, device: torch.device) -> Layer:
        multiply = _grouped_mm if hasattr(functional, "grouped_mm") else _matmuls

        def layer(x_TD: Tensor, routing: Routing, weights: Weights) -> Tensor:
            groups, places = _grouped(routing)
            with stage("up"):
                h_NU = add_bias(multiply(dispatch(x_TD, places), weights.w_up_EUD, groups), weights.b_up_EU, groups)
            with stage("down"):
                y_ND = multiply(activate(problem, h_NU), weights.w_down_EDF, groups)
                y_ND = add_bias(y_ND, weights.b_down_ED, groups)
            return combine(y_ND, routing.gates_TK, places)

        return layer

    def routed_linear(self, problem: Problem, config: Config, device: torch.device) -> RoutedLinear:
        multiply = _grouped_mm if hasattr(functional, "grouped_mm") else _matmuls

        def linear(x_TI: Tensor, routing: Routing, w_EOI: Tensor) -> Tensor:
            groups, places = _grouped(routing)
            return by_route(routing, groups.route_N, multiply(dispatch(x_TI, places), w_EOI, groups))

        return linear

    def cost(self, problem: Problem, config: Config, routing: Routing) -> Cost:
        kept = int(routing.counts_E().sum())
        width = 2 * problem.D + problem.U + 2 * problem.F
        if problem.mode == "train":
            width += problem.D + problem.U + problem.F
        return Cost(executed_rows=kept, workspace_bytes=kept * width * ELEMENT_BYTES[problem.dtype])

    def steps(self, problem: Problem, config: Config, routing: Routing, device: torch.device) -> Sequence[Step]:
        if device.type != "cpu":
            return ()
        from ..cost_model.expert_rows import rows_of_experts
        from ..cost_model.torch_steps import GROUPED_CALLS, PLACES, SORT, TorchSteps

        step = TorchSteps.of(problem, rows_of_experts(routing), torch.get_num_threads())
        return step.expert_mlp(
            step.routes("group", SORT, PLACES),
            rows=step.rows,
            matrices=step.touched,
            calls=GROUPED_CALLS * step.touched,
            passes=step.mm_passes,
        )


def _grouped(routing: Routing) -> tuple[Groups, Places]:
    """Return the routes in expert order, and the positions of all routes among the rows in that order."""
    with stage("dispatch"):
        groups = group_by_expert(routing)
        rows = groups.route_N.numel()
        row_N = torch.arange(rows, device=groups.route_N.device)
        return groups, Places.of(routing, route_n=groups.route_N, row_n=row_N, rows=rows)


def aligned(problem: Problem) -> str | None:
    """Return why `grouped_mm` cannot multiply for this problem, or None."""
    step = ALIGNMENT_BYTES // ELEMENT_BYTES[problem.dtype]
    for name, width in (("D", problem.D), ("F", problem.F)):
        if width % step:
            return f"grouped_mm needs widths in multiples of {step} for {problem.dtype}, {name} = {width}"
    return None


def _grouped_mm(rows: Tensor, weights: Tensor, groups: Groups) -> Tensor:
    """Compute rows @ weights[e].T for the rows of every expert; weights (E, out, in)."""
    ends_E = torch.tensor(groups.counts, device=rows.device).cumsum(0, dtype=torch.int32)
    # Weights cut out of a larger tensor have strides that grouped_mm refuses; it takes those that lie transposed.
    whole = weights if weights.mT.is_contiguous() else weights.contiguous()
    return functional.grouped_mm(rows, whole.mT, offs=ends_E)


def _matmuls(rows: Tensor, weights: Tensor, groups: Groups) -> Tensor:
    # Without any rows the empty product of expert 0 connects the gradients.
    parts = [rows[start:end] @ weights[e].T for e, start, end in groups.slices()] or [rows @ weights[0].T]
    return torch.cat(parts)


def add_bias(rows: Tensor, bias: Tensor | None, groups: Groups) -> Tensor:
    """Add ``bias[e]`` to every row of expert e, in place, unless ``bias`` (E, out) is None. Differentiable."""
    if bias is None:
        return rows
    return cast(Tensor, _AddBias.apply(rows, bias, groups))  # type: ignore[no-untyped-call]


class _AddBias(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor, bias: Tensor, groups: Groups) -> Tensor:
        ctx.mark_dirty(rows)
        ctx.groups = groups
        for e, start, end in groups.slices():
            rows[start:end] += bias[e]
        return rows

    @staticmethod
    @differentiable_once
    def backward(ctx: Any, drows: Tensor) -> tuple[Tensor, Tensor, None]:
        # One sum for each expert: to add rows by index would take atomics on a GPU.
        return drows, torch.stack([part.sum(0) for part in drows.split(ctx.groups.counts)]), None


kernel = Grouped()
