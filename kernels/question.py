"""The question that an implementation answers: its inputs, and the true result in float64."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from .block_oracle import true_layer, true_layer_bytes
from .oracle import Result
from .problem import Problem
from .problem.routing import Routing
from .problem.tensors import Inputs


def _useful_flops(problem: Problem, kept: Routing) -> int:
    return problem.flops(int(kept.counts_E().sum()))


def _ideal_bytes(problem: Problem, kept: Routing) -> int:
    return problem.ideal_bytes(kept.touched())


@dataclass(frozen=True)
class Question:
    """The inputs of an implementation for a problem, and the result that it must give.

    ``given`` turns the inputs that were drawn for the problem, with a seed, into those of the implementation, ``truth``
    computes the result that it must give for them, and ``truth_bytes`` returns the bytes that both allocate at their
    peak. ``useful_flops`` and ``ideal_bytes`` count what the kept routes need. ``by_token`` says that a token's result
    depends on that token and its routes alone, in a dropless forward pass. ``scales_tokens`` says that tokens times any
    factor are tokens as good, so that timed calls get new ones by it. ``token_rows`` returns of a result a row for each
    token, of a width that does not depend on the batch: what is compared between batches.
    """

    given: Callable[[Problem, Inputs, int], Inputs]
    truth: Callable[[Problem, Inputs], Result]
    truth_bytes: Callable[[Problem], int]
    useful_flops: Callable[[Problem, Routing], int] = _useful_flops
    ideal_bytes: Callable[[Problem, Routing], int] = _ideal_bytes
    by_token: bool = False
    scales_tokens: bool = True
    token_rows: Callable[[Problem, Tensor], Tensor] = lambda _, y_TD: y_TD


LAYER = Question(given=lambda _, drawn, __: drawn, truth=true_layer, truth_bytes=true_layer_bytes, by_token=True)
"""The output of the MoE layer, and in training its gradients: computed by every kernel except reference rates."""
