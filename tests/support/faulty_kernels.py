"""Kernels with wrong results, crashes, hangs and stale answers; importing this module registers them by name."""

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
    """Loop baseline with a fault from call ``from_call`` on; the kernel's name is that of the fault."""

    family = "faulty"
    from_call: ClassVar[int] = 1

    @property
    def name(self) -> str:
        return type(self).__name__

    def cost(self, problem: Problem, config: Config, routing: Routing) -> Cost:
        return LOOP.cost(problem, config, routing)

    def build(self, problem: Problem, config: Config, device: torch.device) -> Layer:
        correct = LOOP.build(problem, config, device)
        calls = itertools.count(1)

        def layer(x_TD: Tensor, routing: Routing, weights: Weights) -> Tensor:
            y_TD = correct(x_TD, routing, weights)
            return y_TD if next(calls) < self.from_call else self.falsify(y_TD, x_TD, weights)

        return layer

    def falsify(self, y_TD: Tensor, x_TD: Tensor, weights: Weights) -> Tensor:
        """Return the right answer with the fault in it."""
        return y_TD


class OffInOneRow(Faulty):
    """Kernel with one wrong row."""

    def falsify(self, y_TD: Tensor, x_TD: Tensor, weights: Weights) -> Tensor:
        return torch.cat((y_TD[:-1], y_TD[-1:] * 1.01))


class NotANumber(Faulty):
    """Kernel with one NaN."""

    def falsify(self, y_TD: Tensor, x_TD: Tensor, weights: Weights) -> Tensor:
        nothing = torch.zeros_like(y_TD)
        nothing[0, 0] = torch.nan
        return y_TD + nothing


class WrongShape(Faulty):
    """Kernel with the right numbers in another shape."""

    def falsify(self, y_TD: Tensor, x_TD: Tensor, weights: Weights) -> Tensor:
        return y_TD.T


class WritesToInput(Faulty):
    """Kernel with the right numbers that overwrites its input."""

    def falsify(self, y_TD: Tensor, x_TD: Tensor, weights: Weights) -> Tensor:
        x_TD.mul_(2)
        return y_TD


class WritesLater(Faulty):
    """Kernel with the right numbers that overwrites its input from the third call on."""

    from_call = 3

    def falsify(self, y_TD: Tensor, x_TD: Tensor, weights: Weights) -> Tensor:
        x_TD.mul_(2)
        return y_TD


class WrongGateGradient(Faulty):
    """Kernel with the right output and no gradient for the gates."""

    def build(self, problem: Problem, config: Config, device: torch.device) -> Layer:
        correct = LOOP.build(problem, config, device)

        def layer(x_TD: Tensor, routing: Routing, weights: Weights) -> Tensor:
            detached = Routing(ids_TK=routing.ids_TK, gates_TK=routing.gates_TK.detach(), experts=routing.experts)
            return correct(x_TD, detached, weights) + 0 * routing.gates_TK.sum()

        return layer


class Remembers(Faulty):
    """Kernel that computes once for each memory of x, and returns that result from then on."""

    def build(self, problem: Problem, config: Config, device: torch.device) -> Layer:
        correct = LOOP.build(problem, config, device)
        known: dict[int, Tensor] = {}

        def layer(x_TD: Tensor, routing: Routing, weights: Weights) -> Tensor:
            if x_TD.data_ptr() not in known:
                known[x_TD.data_ptr()] = correct(x_TD, routing, weights)
            return known[x_TD.data_ptr()]

        return layer


class GoesWrongLater(Faulty):
    """Kernel that is right at first and wrong from the third call on: only the second check notices."""

    from_call = 3

    def falsify(self, y_TD: Tensor, x_TD: Tensor, weights: Weights) -> Tensor:
        return y_TD * 1.1


class Raises(Faulty):
    """Kernel that raises an exception."""

    def falsify(self, y_TD: Tensor, x_TD: Tensor, weights: Weights) -> Tensor:
        raise RuntimeError("no such luck\nsecond line")


class DoesNotCompile(Faulty):
    """Kernel that fails while Triton compiles it."""

    def falsify(self, y_TD: Tensor, x_TD: Tensor, weights: Weights) -> Tensor:
        class CompilationError(Exception):
            __module__ = "triton.compiler.errors"

        raise CompilationError("at 3:4: no such thing")


class RunsOutOfMemory(Faulty):
    """Kernel that asks for more memory than there is."""

    def falsify(self, y_TD: Tensor, x_TD: Tensor, weights: Weights) -> Tensor:
        raise torch.OutOfMemoryError("tried to allocate 1000 GiB")


class RunsOutOfMemoryLater(Faulty):
    """Kernel that asks for too much memory when it is sampled, after it was checked."""

    from_call = 3

    def falsify(self, y_TD: Tensor, x_TD: Tensor, weights: Weights) -> Tensor:
        raise torch.OutOfMemoryError("tried to allocate 1000 GiB")


class ReplacesClock(Faulty):
    """Kernel that lets Python's clock stand still once it was checked."""

    from_call = 3

    def falsify(self, y_TD: Tensor, x_TD: Tensor, weights: Weights) -> Tensor:
        time.perf_counter_ns = lambda: 0
        return y_TD


class Dies(Faulty):
    """Kernel that kills its process, as an illegal memory access does."""

    def falsify(self, y_TD: Tensor, x_TD: Tensor, weights: Weights) -> Tensor:
        os.kill(os.getpid(), signal.SIGSEGV)
        return y_TD


class Hangs(Faulty):
    """Kernel that never returns."""

    def falsify(self, y_TD: Tensor, x_TD: Tensor, weights: Weights) -> Tensor:
        while True:
            time.sleep(1)


FAULTY: dict[str, Kernel] = {kind.__name__: kind() for kind in Faulty.__subclasses__()}


class Name(str):
    """Kernel name whose unpickling in a worker imports this module, and so registers the faulty kernels."""

    __slots__ = ()


def _load(self: Catalog[Kernel], name: str) -> Kernel:
    if name == "CannotBeImported":
        raise RuntimeError("built for another driver\nsecond line")
    return FAULTY[name] if name in FAULTY else _catalog_load(self, name)


_catalog_load = Catalog.load
Catalog.load = _load  # type: ignore[method-assign, assignment]  # the fault that is injected
