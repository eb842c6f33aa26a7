"""The question that an implementation answers: what it is given of a problem, and the true answer in float64."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from .oracle import Result, reference, reference_bytes
from .problem import Problem
from .problem.tensors import Inputs


@dataclass(frozen=True)
class Question:
    """How a problem is put to an implementation.

    ``given`` makes its inputs of those that were drawn for the problem, ``truth`` the result that it must give for
    them, and ``truth_bytes`` says how many bytes the two allocate at their peak.
    """

    given: Callable[[Problem, Inputs], Inputs]
    truth: Callable[[Problem, Inputs], Result]
    truth_bytes: Callable[[Problem], int]


LAYER = Question(given=lambda _, drawn: drawn, truth=reference, truth_bytes=reference_bytes)
"""What does the MoE layer make of these inputs? Every implementation answers it but a reference rate."""
