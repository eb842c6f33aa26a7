"""The interface of an implementation: one class in one file of ``kernels/implementations/``."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

import torch
from torch import Tensor

from .config import Config
from .guarantee import NO_GUARANTEE, Guarantee
from .problem import Problem
from .problem.block import RoutedLinear
from .problem.load import Load
from .problem.routing import Routing, with_every_route
from .problem.tensors import Weights
from .problem.trace import label
from .question import LAYER, Question
from .steps import Step
from .traffic_counter import TrafficCounter

Layer = Callable[[Tensor, Routing, Weights], Tensor]
"""A built implementation: x (T, D), routes and weights in, y (T, D) of x's dtype out, differentiable in all of them."""

Operands = tuple[Tensor, Tensor, Tensor, Tensor, Tensor | None, Tensor | None]
"""The tensors of a call that have gradients: x (T, D), gate weights (T, K), both matrices of experts, both biases."""

Gradients = tuple[Tensor | None, ...]
"""Gradients of `Operands` in that order, None if not wanted."""


class SplitLayer(Protocol):
    """A built layer whose two passes can be called apart, for operators that autograd does not look into.

    Between them it needs the pre-activations of the present routes alone, in expert order, those of one expert in the
    order of the tokens: the first rows of ``h_NU``, (T * K, U) of x's dtype.
    """

    def keep(self, x_TD: Tensor, routing: Routing, weights: Weights, h_NU: Tensor) -> Tensor:
        """Return y (T, D), and write the pre-activations to ``h_NU``."""

    def backward(
        self,
        dy_TD: Tensor,
        x_TD: Tensor,
        routing: Routing,
        weights: Weights,
        h_NU: Tensor,
        wanted: Sequence[bool],
    ) -> Gradients:
        """Return the gradients that are wanted; `Gradients` has their order."""


@dataclass(frozen=True, kw_only=True)
class Cost:
    """The work that an implementation will do for a routing, known before it runs.

    ``executed_rows`` counts the rows of the expert products, padding included; ``extra_flops`` the FLOPs of one forward
    outside the expert products (one-hot dispatch, say); ``workspace_bytes`` estimates the peak of the memory allocated
    beyond inputs and outputs; ``traffic`` counts what each rank will have sent, and is empty for an implementation that
    runs on one rank.
    """

    executed_rows: int
    workspace_bytes: int
    extra_flops: int = 0
    traffic: tuple[TrafficCounter, ...] = ()


class Kernel(ABC):
    """One competing implementation. Its name is the name of its file; the file's ``kernel`` is its one instance.

    The class attributes describe it to everything that chooses kernels, so that a new file needs no edit elsewhere:

    ``family`` groups implementations of one idea in reports; ``peer`` is the family of other projects.
    ``question`` is what it computes: the layer, unless it is a reference rate.
    ``between_ranks``: it moves rows between ranks; others refuse more than one rank.
    ``drops``: it honours a capacity factor; others refuse one.
    ``adds_biases``, ``takes_scales``: it computes experts with biases, with quantised weights; others refuse them.
    ``reads_every_route``: it takes every id for an expert's, and refuses a load or router that leaves routes out;
    `build_for_any_routes` gives it other routes instead.
    ``devices`` are the device types that it is made for: suites measure it on no other.
    ``preference`` gives its place in the order in which ``auto`` and expert parallelism try kernels, by device type
    (``cpu``, ``cuda``), the smallest first; they never try one without a place, which runs only when it is named. On a
    CPU ``auto`` goes by predicted times instead, among all kernels that have `steps`.
    """

    family: str
    question: ClassVar[Question] = LAYER
    between_ranks: ClassVar[bool] = False
    drops: ClassVar[bool] = False
    adds_biases: ClassVar[bool] = False
    takes_scales: ClassVar[bool] = False
    reads_every_route: ClassVar[bool] = False
    devices: ClassVar[tuple[str, ...]] = ("cpu", "cuda")
    preference: ClassVar[Mapping[str, int]] = {}

    @property
    def name(self) -> str:
        """The name of the kernel's file, under which users and records know the kernel."""
        return type(self).__module__.rpartition(".")[2]

    @property
    def is_reference(self) -> bool:
        """True for a reference rate, which solves another problem than the layer and competes with nothing."""
        return type(self).solves is not Kernel.solves

    def solves(self, problem: Problem) -> Problem:
        """Return the problem for which the kernel's layer is built: the given one, except for a reference rate."""
        return problem

    def answers(self, problem: Problem) -> bool:
        """Return whether the kernel's result is that of the problem's layer, which a reference rate's is not."""
        return self.question is LAYER and self.solves(problem) == problem

    @abstractmethod
    def build(self, problem: Problem, config: Config, device: torch.device) -> Layer:
        """Do everything that may be done before the clock starts, and return the layer, which is what is timed."""

    def build_for_any_routes(self, problem: Problem, config: Config, device: torch.device) -> Layer:
        """Build a layer that skips absent routes also where the kernel reads every route."""
        layer = self.build(problem, config, device)
        if not self.reads_every_route:
            return layer
        return lambda x_TD, routing, weights: layer(x_TD, with_every_route(routing), weights)

    @property
    def splits(self) -> bool:
        """True if it has `build_split`."""
        return type(self).build_split is not Kernel.build_split

    def build_split(self, problem: Problem, config: Config, device: torch.device) -> SplitLayer:
        """Build a layer whose passes can be called apart, for a problem without a capacity.

        Raises:
            TypeError: for a kernel without one (`splits`).
        """
        raise TypeError(f"{self.name} has no passes that can be called apart")

    @property
    def multiplies_routes(self) -> bool:
        """True if it has `routed_linear`, without which it takes no block of single projections."""
        return type(self).routed_linear is not Kernel.routed_linear

    def routed_linear(self, problem: Problem, config: Config, device: torch.device) -> RoutedLinear:
        """Build one product for every route, which is not summed over a token's experts.

        Raises:
            TypeError: for a kernel without one (`multiplies_routes`).
        """
        raise TypeError(f"{self.name} has no product of single routes")

    @abstractmethod
    def cost(self, problem: Problem, config: Config, routing: Routing) -> Cost:
        """Return the work of one call; ``routing`` already lacks the routes that the capacity drops."""

    def supports(self, problem: Problem, device: torch.device) -> str | None:
        """Return None, or why the kernel cannot take this problem on this device, naming constraint and value."""
        return self.refuses(problem)

    def refuses(self, problem: Problem) -> str | None:
        """Return None, or why the kernel cannot take this problem on any device, naming constraint and value."""
        refusals = (
            (False, _unwrapped),
            (self.between_ranks, _one_rank),
            (self.drops, _dropless),
            (self.adds_biases, _unbiased),
            (self.takes_scales, _unscaled),
            (not self.reads_every_route, _every_route),
        )
        return next((reason for able, refusal in refusals if not able and (reason := refusal(problem))), None)

    def space(self, problem: Problem, device: torch.device) -> list[Config]:
        """Return the configurations to choose from, the default first."""
        return [{}]

    def fault(self, problem: Problem, config: Config, device: torch.device) -> str | None:
        """Return None, or why a configuration of the space cannot be built for this problem on this device."""
        return None

    def valid(self, problem: Problem, config: Config, device: torch.device) -> bool:
        """Return whether a configuration of the space can be built for this problem on this device."""
        return self.fault(problem, config, device) is None

    def unproven(self, config: Config) -> bool:
        """Return whether a configuration needs a feature that never ran on hardware, so that a search tries it last."""
        return False

    def guarantee(self, problem: Problem, config: Config) -> Guarantee:
        """Return what a configuration guarantees of a token's bits by construction; by default nothing is claimed.

        It is that of this configuration at every number of tokens; a trial that sees a guarantee broken is wrong.
        """
        return NO_GUARANTEE

    def steps(self, problem: Problem, config: Config, routing: Routing, device: torch.device) -> Sequence[Step]:
        """Return the steps of one call for a static model of its time, or nothing where there is no such model.

        On a CPU a kernel with a model is one that ``auto`` may choose.

        ``routing`` already lacks the routes that the capacity drops; it may be on another device.
        """
        return ()


def _unwrapped(problem: Problem) -> str | None:
    return f"computes experts alone, the problem has block = {problem.block}" if problem.block else None


def _one_rank(problem: Problem) -> str | None:
    return f"runs on one rank, the problem has ranks = {problem.ranks}" if problem.ranks > 1 else None


def _dropless(problem: Problem) -> str | None:
    if problem.capacity_factor is None:
        return None
    return f"is dropless, the problem drops above capacity_factor = {problem.capacity_factor:g}"


def _unbiased(problem: Problem) -> str | None:
    return f"adds no biases to the products, the problem has bias = {problem.bias}" if problem.bias else None


def _unscaled(problem: Problem) -> str | None:
    return f"takes weights without scales, the problem has dtype = {problem.dtype}" if problem.quantised else None


def _every_route(problem: Problem) -> str | None:
    if Load.parse(problem.load).leaves_out:
        return f"reads every route, the load {label(problem.load)} leaves some out"
    return f"reads every route, the router {problem.router} leaves some out" if problem.leaves_out else None
