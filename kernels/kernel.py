"""What an implementation is: one class in one file of ``kernels/implementations/``."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol, runtime_checkable

import torch
from torch import Tensor

from .expert_parallel.comm_stream import CommStream
from .expert_parallel.traffic_counter import TrafficCounter
from .problem import Problem
from .problem.load import Load
from .problem.routing import Routing
from .problem.tensors import Weights
from .problem.trace import label
from .question import LAYER, Question
from .steps import Step

Config = Mapping[str, int | float | str | bool]
"""The tunable choices of one build, by name; part of a record's identity."""

Layer = Callable[[Tensor, Routing, Weights], Tensor]
"""A built implementation: x (T, D), routes and weights in, y (T, D) of x's dtype out, differentiable in all of them."""


@runtime_checkable
class Communicates(Protocol):
    """A layer of one of several ranks.

    ``ledger`` counts what this rank has sent since the layer was built, ``lane`` is where its collectives run.
    """

    lane: CommStream

    @property
    def ledger(self) -> TrafficCounter: ...


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What an implementation will do to a routing, known before it runs.

    ``executed_rows`` counts expert-product rows, padding included; ``extra_flops`` what it spends outside the expert
    products (one-hot dispatch, say) in one forward; ``workspace_bytes`` estimates the peak it allocates beyond inputs
    and outputs; ``traffic`` what each rank will have sent, none where nothing is shared.
    """

    executed_rows: int
    workspace_bytes: int
    extra_flops: int = 0
    traffic: tuple[TrafficCounter, ...] = ()


class Kernel(ABC):
    """One competing implementation. Its name is the name of its file; the file's ``kernel`` is its one instance.

    ``family`` groups implementations of one idea in reports; ``question`` is what they answer.
    """

    family: str
    question: ClassVar[Question] = LAYER

    @property
    def name(self) -> str:
        return type(self).__module__.rpartition(".")[2]

    def solves(self, problem: Problem) -> Problem:
        """The problem that its layer is built for and fed: the one asked for, except for a reference rate."""
        return problem

    def answers(self, problem: Problem) -> bool:
        """Whether its result is that of the problem's layer, which a reference rate's is not."""
        return self.question is LAYER and self.solves(problem) == problem

    @abstractmethod
    def build(self, problem: Problem, config: Config, device: torch.device) -> Layer:
        """Everything that may be done before the clock starts; the layer is what is timed."""

    @abstractmethod
    def cost(self, problem: Problem, config: Config, routing: Routing) -> Cost:
        """What one call will do; ``routing`` already lacks the routes that the capacity drops."""

    def supports(self, problem: Problem, device: torch.device) -> str | None:
        """None, or the reason why it cannot take this problem on this device, naming constraint and value."""
        return one_rank(problem) or dropless(problem) or unbiased(problem) or unscaled(problem)

    def space(self, problem: Problem, device: torch.device) -> list[Config]:
        """The configurations to choose from, the default first."""
        return [{}]

    def fault(self, problem: Problem, config: Config, device: torch.device) -> str | None:
        """None, or why a configuration of the space cannot be built for this problem on this device."""
        return None

    def valid(self, problem: Problem, config: Config, device: torch.device) -> bool:
        """Whether a configuration of the space can be built for this problem on this device."""
        return self.fault(problem, config, device) is None

    def unproven(self, config: Config) -> bool:
        """Whether a configuration relies on what has never run on hardware, so that a search tries it last."""
        return False

    def steps(self, problem: Problem, config: Config, routing: Routing, device: torch.device) -> Sequence[Step]:
        """What one call will do, step by step, for a static model of its time; nothing where there is none.

        ``routing`` already lacks the routes that the capacity drops; it may be on another device.
        """
        return ()


def one_rank(problem: Problem) -> str | None:
    """The refusal of an implementation that knows one rank only."""
    return f"runs on one rank, the problem has ranks = {problem.ranks}" if problem.ranks > 1 else None


def dropless(problem: Problem) -> str | None:
    """The refusal of an implementation that never drops."""
    if problem.capacity_factor is None:
        return None
    return f"is dropless, the problem drops above capacity_factor = {problem.capacity_factor:g}"


def every_route(problem: Problem) -> str | None:
    """The refusal of an implementation that takes every id for an expert's."""
    left_out = Load.parse(problem.load).leaves_out
    return f"reads every route, the load {label(problem.load)} leaves some out" if left_out else None


def unbiased(problem: Problem) -> str | None:
    """The refusal of an implementation whose experts are two products and nothing else."""
    return f"adds no biases to the products, the problem has bias = {problem.bias}" if problem.bias else None


def unscaled(problem: Problem) -> str | None:
    """The refusal of an implementation that multiplies weights as they are held."""
    return f"takes weights without scales, the problem has dtype = {problem.dtype}" if problem.quantised else None
