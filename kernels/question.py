"""The question that an implementation answers: its inputs, and the true result in float64."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from .oracle import Result, reference, reference_bytes
from .problem import Problem
from .problem.tensors import Inputs


@dataclass(frozen=True)
class Question:
    """The inputs of an implementation for a problem, and the result that it must give.

    ``given`` turns the inputs that were drawn for the problem into those of the implementation, ``truth`` computes the
    result that it must give for them, and ``truth_bytes`` returns the bytes that both allocate at their peak.
    ``by_token`` says that a token's result depends on that token and its routes alone, in a dropless forward pass.
    """

    given: Callable[[Problem, Inputs], Inputs]
    truth: Callable[[Problem, Inputs], Result]
    truth_bytes: Callable[[Problem], int]
    by_token: bool = False


LAYER = Question(given=lambda _, drawn: drawn, truth=reference, truth_bytes=reference_bytes, by_token=True)
"""The output of the MoE layer, and in training its gradients: computed by every kernel except reference rates."""
