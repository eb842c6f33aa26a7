"""The experts modules of a model of transformers: which of them moebench runs, and why it refuses another."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any, TypedDict, Unpack, cast

import torch
from torch import Tensor, nn

from ...common.errors import UserError
from ...kernels.module.apply_experts import apply_experts
from ...kernels.module.hugging_face import NORM, ExpertsLayout
from ...kernels.problem import Activation, Problem
from ...kernels.problem.tensors import Weights
from ...kernels.tuned.select import AUTO
from .converted_weights import read_weights
from .own_forwards import own_forward_of
from .replaced_forwards import OwnForward, let_forward_ask

ATTRIBUTE = "moebench"
"""The attribute of an experts module that holds how it is taken."""
EXPERTS = re.compile(r"(?<!Shared)(Experts|NaiveMoe|CDMoE)$")
"""Names of the classes of transformers that hold routed experts."""
REASONS = {
    "DogeCDMoE": "chooses its experts itself, by product keys, among many with one hidden unit each",
    "JetMoeParallelExperts": "computes one product, and its caller what is between two of them",
    "Llama4TextExperts": "takes no ids and weights of tokens: each of its experts computes all tokens, scaled before",
    "VitPoseNaiveMoe": "has experts of one linear map each",
}
"""What classes of transformers compute that ask for no implementation and are not taken."""
NO_IMPLEMENTATION = "computes its experts itself and asks for no experts_implementation, so moebench would not run"


class DispatchOptions(TypedDict, total=False):
    """Options that say how experts are run."""

    dispatch: str
    batch_invariant: bool


class RefusedExperts(UserError, ValueError):
    """An error about experts that moebench does not run; the message names the class, the reason and the remedy."""


@dataclass(frozen=True, kw_only=True)
class TakenExperts:
    """How one experts module is run."""

    layout: ExpertsLayout | OwnForward
    problem: Problem
    dispatch: str = AUTO
    batch_invariant: bool = False

    @property
    def options(self) -> DispatchOptions:
        """The options of `take`."""
        return {"dispatch": self.dispatch, "batch_invariant": self.batch_invariant}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take the fields from a pickle, in a process whose classes of experts compute as transformers has them."""
        vars(self).update(state)
        if isinstance(self.layout, OwnForward):
            let_forward_ask(self.layout.kind, ATTRIBUTE)

    def forward(self, experts: nn.Module, hidden_states: Tensor, ids: Tensor, gates: Tensor) -> Tensor:
        """Apply the experts of a module to tokens (T, D), as `apply_experts` does, or as its own forward would."""
        if isinstance(self.layout, OwnForward):
            apply = partial(self._apply, experts)
            return self.layout.forward(experts, apply, hidden_states, ids, gates)
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
        weights = _weights(self.layout, experts)
        problem = self.problem  # made before any graph is traced
        if weights.w_down_EDF.shape != (problem.E, problem.D, problem.F):  # this rank has a part of them
            problem = _problem(self.layout, weights.w_down_EDF.shape)
        return apply_experts(
            problem, weights, x_TD, ids_TK, gates_TK, dispatch=self.dispatch, batch_invariant=self.batch_invariant
        )


def _weights(layout: ExpertsLayout | OwnForward, experts: nn.Module) -> Weights:
    return layout.weights(experts) if isinstance(layout, OwnForward) else read_weights(layout, experts)


def _problem(layout: ExpertsLayout | OwnForward, sizes: Sequence[int]) -> Problem:
    """Return the problem of experts with these E, D and F, but for what each call brings."""
    E, D, F = sizes
    return _problem_of(E, D, F, layout.activation, layout.gated, layout.bias)


@lru_cache
def _problem_of(E: int, D: int, F: int, activation: Activation, gated: bool, bias: bool) -> Problem:
    return Problem(T=0, D=D, F=F, E=E, K=1, activation=activation, gated=gated, bias=bias, router="softmax_topk")


def experts_of(model: nn.Module, *, without: Callable[[nn.Module], bool] = lambda _: False) -> Iterator[nn.Module]:
    """Yield the routed experts of a model, but not those inside of modules that it is to be ``without``."""
    for child in model.children():
        if EXPERTS.search(type(child).__name__) or asks_for_implementation(child):
            yield child
        elif not without(child):
            yield from experts_of(child, without=without)


def take(experts: nn.Module, **options: Unpack[DispatchOptions]) -> TakenExperts:
    """Note on a module how it is run.

    Raises:
        RefusedExperts: when moebench cannot run it.
    """
    layout = layout_of(experts)
    if isinstance(layout, OwnForward):
        problem = _problem(layout, layout.sizes(experts))
        let_forward_ask(layout.kind, ATTRIBUTE)
    else:
        with torch.no_grad():
            problem = _problem(layout, layout.arrange(layout.read(experts)).w_down_EDF.shape)
    taken = TakenExperts(layout=layout, problem=problem, **options)
    setattr(experts, ATTRIBUTE, taken)
    return taken


def layout_of(experts: nn.Module) -> ExpertsLayout | OwnForward:
    """Return the layout of a module, or how its own forward is replaced if it asks for no implementation.

    Raises:
        RefusedExperts: when moebench cannot run it.
    """
    if not asks_for_implementation(experts):
        return _own_forward_of(experts)
    try:
        return ExpertsLayout.of(experts)
    except ValueError as error:
        raise RefusedExperts(f'{error}; experts_implementation = "grouped_mm" runs it as it is') from error


def asks_for_implementation(experts: nn.Module) -> bool:
    """Return whether the forward of a module is that of the implementation which its configuration names."""
    return hasattr(experts, "is_concatenated")  # set by use_experts_implementation


def _own_forward_of(experts: nn.Module) -> OwnForward:
    kind = type(experts).__name__
    try:
        found = own_forward_of(experts)
    except ValueError as error:
        raise RefusedExperts(f"{error}: leave experts_implementation out") from error
    if found is None:
        raise RefusedExperts(f"{kind} {REASONS.get(kind, NO_IMPLEMENTATION)}: leave experts_implementation out")
    return found
