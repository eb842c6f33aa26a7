"""Sort the rows by expert, multiply them group by group, gather them back.

Uses `torch.nn.functional.grouped_mm`; where torch lacks it, one matmul for each expert that has rows.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from ..activations import activate
from ..dispatch import Places, combine, dispatch
from ..kernel import Config, Cost, Kernel, Layer
from ..problem import ELEMENT_BYTES, Problem
from ..routing import Groups, Routing, group_by_expert
from ..tensors import Weights

ALIGNMENT_BYTES = 16  # grouped_mm asks for rows that start on 16 bytes


class Grouped(Kernel):
    """A grouped copy of the input, two grouped products, a gather-sum combine."""

    family = "grouped"

    def supports(self, problem: Problem, device: torch.device) -> str | None:
        return aligned(problem) or super().supports(problem, device)

    def build(self, problem: Problem, config: Config, device: torch.device) -> Layer:
        multiply = _grouped_mm if hasattr(functional, "grouped_mm") else _matmuls

        def layer(x_TD: Tensor, routing: Routing, weights: Weights) -> Tensor:
            groups = group_by_expert(routing)
            rows = groups.route_N.numel()
            row_N = torch.arange(rows, device=x_TD.device)
            places = Places.of(routing, route_n=groups.route_N, row_n=row_N, rows=rows)
            h_NU = multiply(dispatch(x_TD, places), weights.w_up_EUD, groups)
            y_ND = multiply(activate(problem, h_NU), weights.w_down_EDF, groups)
            return combine(y_ND, routing.gates_TK, places)

        return layer

    def cost(self, problem: Problem, config: Config, routing: Routing) -> Cost:
        kept = int(routing.counts_E().sum())
        width = 2 * problem.D + problem.U + 2 * problem.F
        if problem.mode == "train":
            width += problem.D + problem.U + problem.F
        return Cost(executed_rows=kept, workspace_bytes=kept * width * ELEMENT_BYTES[problem.dtype])


def aligned(problem: Problem) -> str | None:
    """The refusal of an implementation that multiplies by `grouped_mm`."""
    step = ALIGNMENT_BYTES // ELEMENT_BYTES[problem.dtype]
    for name, width in (("D", problem.D), ("F", problem.F)):
        if width % step:
            return f"grouped_mm wants widths in multiples of {step} for {problem.dtype}, {name} = {width}"
    return None


def _grouped_mm(rows: Tensor, weights: Tensor, groups: Groups) -> Tensor:
    """Products rows @ weights[e].T for the rows of every expert; weights (E, out, in)."""
    ends_E = torch.tensor(groups.counts, device=rows.device).cumsum(0, dtype=torch.int32)
    # Weights cut out of a larger tensor have strides that grouped_mm refuses.
    return functional.grouped_mm(rows, weights.contiguous().transpose(1, 2), offs=ends_E)


def _matmuls(rows: Tensor, weights: Tensor, groups: Groups) -> Tensor:
    # Without rows any expert's product of none will do, so that there are gradients.
    parts = [rows[start:end] @ weights[e].T for e, start, end in groups.slices()] or [rows @ weights[0].T]
    return torch.cat(parts)


kernel = Grouped()
