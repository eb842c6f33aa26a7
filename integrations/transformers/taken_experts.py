"""The experts modules of a model of transformers: which of them moebench runs, and why it refuses another."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import TypedDict, Unpack, cast

import torch
from torch import Tensor, nn

from ...common.errors import UserError
from ...kernels.module.apply_experts import apply_experts
from ...kernels.module.hugging_face import NORM, ExpertsLayout
from ...kernels.problem import Activation, Problem
from ...kernels.problem.tensors import Weights
from ...kernels.tuned.select import AUTO
from .converted_weights import read_weights

ATTRIBUTE = "moebench"
"""The attribute of an experts module that holds how it is taken."""
EXPERTS = re.compile(r"(?<!Shared)(Experts|NaiveMoe|CDMoE)$")
"""Names of the classes of transformers that hold routed experts."""


class DispatchOptions(TypedDict, total=False):
    """Options that say how experts are run."""

    dispatch: str
    batch_invariant: bool


class RefusedExperts(UserError, ValueError):
    """An error about experts that moebench does not run; the message names the class, the reason and the remedy."""


@dataclass(frozen=True, kw_only=True)
class TakenExperts:
    """How one experts module is run."""

    layout: ExpertsLayout
    problem: Problem
    dispatch: str = AUTO
    batch_invariant: bool = False

    @property
    def options(self) -> DispatchOptions:
        """The options of `take`."""
        return {"dispatch": self.dispatch, "batch_invariant": self.batch_invariant}

    def forward(self, experts: nn.Module, hidden_states: Tensor, ids: Tensor, gates: Tensor) -> Tensor:
        """Apply the experts of a module to tokens (T, D), as `apply_experts` does."""
        if not self.layout.normed:
            return self._apply(experts, hidden_states, ids, gates)
        # The norm comes before the gate weight, so every route is a token of its own until then.
        T, K = ids.shape
        rows = self._apply(
            experts, hidden_states.repeat_interleave(K, 0), ids.reshape(T * K, 1), gates.new_ones(T * K, 1)
        )
        normed = cast(Tensor, getattr(experts, NORM)(rows)).view(T, K, -1)
        return (normed * gates.unsqueeze(-1)).sum(1).to(hidden_states.dtype)

    def _apply(self, experts: nn.Module, x_TD: Tensor, ids_TK: Tensor, gates_TK: Tensor) -> Tensor:
        weights = read_weights(self.layout, experts)
        problem = self.problem  # made before any graph is traced
        if weights.w_down_EDF.shape != (problem.E, problem.D, problem.F):  # this rank has a part of them
            problem = _problem(self.layout, weights)
        return apply_experts(
            problem, weights, x_TD, ids_TK, gates_TK, dispatch=self.dispatch, batch_invariant=self.batch_invariant
        )


def _problem(layout: ExpertsLayout, weights: Weights) -> Problem:
    """Return the problem but for what each call brings."""
    return _problem_of(*weights.w_down_EDF.shape, layout.activation, layout.gated, layout.bias)


@lru_cache
def _problem_of(E: int, D: int, F: int, activation: Activation, gated: bool, bias: bool) -> Problem:
    return Problem(T=0, D=D, F=F, E=E, K=1, activation=activation, gated=gated, bias=bias, router="softmax_topk")


def experts_of(model: nn.Module, *, without: Callable[[nn.Module], bool] = lambda _: False) -> Iterator[nn.Module]:
    """Yield the routed experts of a model, but not those inside of modules that it is to be ``without``."""
    for child in model.children():
        if EXPERTS.search(type(child).__name__) or hasattr(child, "is_concatenated"):
            yield child
        elif not without(child):
            yield from experts_of(child, without=without)


def take(experts: nn.Module, **options: Unpack[DispatchOptions]) -> TakenExperts:
    """Note on a module how it is run.

    Raises:
        RefusedExperts: when moebench cannot run it.
    """
    layout = layout_of(experts)
    with torch.no_grad():
        problem = _problem(layout, layout.arrange(layout.read(experts)))
    taken = TakenExperts(layout=layout, problem=problem, **options)
    setattr(experts, ATTRIBUTE, taken)
    return taken


def layout_of(experts: nn.Module) -> ExpertsLayout:
    """Return the layout of a module that asks transformers for its implementation.

    Raises:
        RefusedExperts: when moebench cannot run it.
    """
    kind = type(experts).__name__
    if not hasattr(experts, "is_concatenated"):  # set by use_experts_implementation
        raise RefusedExperts(
            f"{kind} computes its experts itself and asks for no experts_implementation, so moebench would not run: "
            "leave experts_implementation out"
        )
    try:
        return ExpertsLayout.of(experts)
    except ValueError as error:
        raise RefusedExperts(f'{error}; experts_implementation = "grouped_mm" runs it as it is') from error
