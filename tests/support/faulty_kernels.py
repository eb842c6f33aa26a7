"""Kernels that lie, crash, hang and forget; importing this module makes them known by name, in workers too."""

from __future__ import annotations

import itertools
import os
import signal
import time
from typing import ClassVar

import torch
from torch import Tensor

from moebench.common.plugins import Catalog
from moebench.kernels.catalog import KERNELS
from moebench.kernels.config import Config
from moebench.kernels.kernel import Cost, Kernel, Layer
from moebench.kernels.problem import Problem
from moebench.kernels.problem.routing import Routing
from moebench.kernels.problem.tensors import Weights

LOOP = KERNELS.load("loop")


class Faulty(Kernel):
    """The loop baseline with a fault, ``from_call`` on; the fault's name is the kernel's."""

    family = "faulty"
    from_call: ClassVar[int] = 1

    @property
    def name(self) -> str:
        return type(self).__name__

    def cost(self, problem: Problem, config: Config, routing: Routing) -> Cost:
        return LOOP.cost(problem, config, routing)

    def build(self, problem: Problem, config: Config, device: torch.device) -> Layer:
        honest = LOOP.build(problem, config, device)
        calls = itertools.count(1)

        def layer(x_TD: Tensor, routing: Routing, weights: Weights) -> Tensor:
            y_TD = honest(x_TD, routing, weights)
            return y_TD if next(calls) < self.from_call else self.falsify(y_TD, x_TD, weights)

        return layer

    def falsify(self, y_TD: Tensor, x_TD: Tensor, weights: Weights) -> Tensor:
        """Return the right answer with the fault in it."""
        return y_TD


class OffInOneRow(Faulty):
    """Right but for one row."""

    def falsify(self, y_TD: Tensor, x_TD: Tensor, weights: Weights) -> Tensor:
        return torch.cat((y_TD[:-1], y_TD[-1:] * 1.01))


class NotANumber(Faulty):
    """Right but for one NaN."""

    def falsify(self, y_TD: Tensor, x_TD: Tensor, weights: Weights) -> Tensor:
        nothing = torch.zeros_like(y_TD)
        nothing[0, 0] = torch.nan
        return y_TD + nothing


class WrongShape(Faulty):
    """The right numbers in another shape."""

    def falsify(self, y_TD: Tensor, x_TD: Tensor, weights: Weights) -> Tensor:
        return y_TD.T


class WritesToInput(Faulty):
    """The right numbers, and the input spoilt."""

    def falsify(self, y_TD: Tensor, x_TD: Tensor, weights: Weights) -> Tensor:
        x_TD.mul_(2)
        return y_TD


class WritesLater(Faulty):
    """The right numbers, and from the third call on the input spoilt."""

    from_call = 3

    def falsify(self, y_TD: Tensor, x_TD: Tensor, weights: Weights) -> Tensor:
        x_TD.mul_(2)
        return y_TD


class WrongGateGradient(Faulty):
    """The right output and no gradient for the gates."""

    def build(self, problem: Problem, config: Config, device: torch.device) -> Layer:
        honest = LOOP.build(problem, config, device)

        def layer(x_TD: Tensor, routing: Routing, weights: Weights) -> Tensor:
            detached = Routing(ids_TK=routing.ids_TK, gates_TK=routing.gates_TK.detach(), experts=routing.experts)
            return honest(x_TD, detached, weights) + 0 * routing.gates_TK.sum()

        return layer


class Remembers(Faulty):
    """Computes once for each memory of x, and answers from then on without computing."""

    def build(self, problem: Problem, config: Config, device: torch.device) -> Layer:
        honest = LOOP.build(problem, config, device)
        known: dict[int, Tensor] = {}

        def layer(x_TD: Tensor, routing: Routing, weights: Weights) -> Tensor:
            if x_TD.data_ptr() not in known:
                known[x_TD.data_ptr()] = honest(x_TD, routing, weights)
            return known[x_TD.data_ptr()]

        return layer


class GoesWrongLater(Faulty):
    """Right at first, wrong from the third call on: only the second check sees it."""

    from_call = 3

    def falsify(self, y_TD: Tensor, x_TD: Tensor, weights: Weights) -> Tensor:
        return y_TD * 1.1


class Raises(Faulty):
    """Fails with an exception."""

    def falsify(self, y_TD: Tensor, x_TD: Tensor, weights: Weights) -> Tensor:
        raise RuntimeError("no such luck\nsecond line")


class DoesNotCompile(Faulty):
    """Fails as Triton does when it compiles."""

    def falsify(self, y_TD: Tensor, x_TD: Tensor, weights: Weights) -> Tensor:
        class CompilationError(Exception):
            __module__ = "triton.compiler.errors"

        raise CompilationError("at 3:4: no such thing")


class RunsOutOfMemory(Faulty):
    """Asks for more than there is."""

    def falsify(self, y_TD: Tensor, x_TD: Tensor, weights: Weights) -> Tensor:
        raise torch.OutOfMemoryError("tried to allocate 1000 GiB")


class RunsOutOfMemoryLater(Faulty):
    """Asks for more than there is when it is sampled, after it was checked."""

    from_call = 3

    def falsify(self, y_TD: Tensor, x_TD: Tensor, weights: Weights) -> Tensor:
        raise torch.OutOfMemoryError("tried to allocate 1000 GiB")


class Dies(Faulty):
    """Takes its process with it, as an illegal memory access does."""

    def falsify(self, y_TD: Tensor, x_TD: Tensor, weights: Weights) -> Tensor:
        os.kill(os.getpid(), signal.SIGSEGV)
        return y_TD


class Hangs(Faulty):
    """Never answers."""

    def falsify(self, y_TD: Tensor, x_TD: Tensor, weights: Weights) -> Tensor:
        while True:
            time.sleep(1)


FAULTY: dict[str, Kernel] = {kind.__name__: kind() for kind in Faulty.__subclasses__()}


class Name(str):
    """A kernel's name whose unpickling in a worker imports this module, and with it the faulty kernels."""

    __slots__ = ()


def _load(self: Catalog[Kernel], name: str) -> Kernel:
    if name == "CannotBeImported":
        raise RuntimeError("built for another driver\nsecond line")
    return FAULTY[name] if name in FAULTY else _honest_load(self, name)


_honest_load = Catalog.load
Catalog.load = _load  # type: ignore[method-assign, assignment]  # the fault that is injected
