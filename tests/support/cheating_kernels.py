"""Kernels that look right or fast without being so; importing this module registers them by name."""

from __future__ import annotations

import itertools
import threading
import time
from typing import Any

import torch
from faulty_kernels import FAULTY, LOOP, Faulty
from torch import Tensor

from moebench.kernels.config import Config
from moebench.kernels.kernel import Layer
from moebench.kernels.problem import Problem
from moebench.kernels.problem.routing import Routing, within_capacity
from moebench.kernels.problem.tensors import Weights


class Cheat(Faulty):
    """Loop baseline that cheats; it takes capacities too."""

    drops = True

    def build(self, problem: Problem, config: Config, device: torch.device) -> Layer:
        loop = LOOP.build(problem, config, device)

        def honest(x_TD: Tensor, routing: Routing, weights: Weights) -> Tensor:
            if problem.capacity is not None:
                routing = within_capacity(routing, problem.drop, problem.capacity)
            return loop(x_TD, routing, weights)

        return self.cheat(honest, problem)

    def cheat(self, honest: Layer, problem: Problem) -> Layer:
        """Return the layer that cheats."""
        calls = itertools.count(1)

        def layer(x_TD: Tensor, routing: Routing, weights: Weights) -> Tensor:
            y_TD = honest(x_TD, routing, weights)
            self.meddle(next(calls), x_TD, routing, weights)
            return y_TD

        return layer

    def meddle(self, number: int, x_TD: Tensor, routing: Routing, weights: Weights) -> None:
        """Do what is not allowed, in call ``number``."""


class Honest(Cheat):
    """Loop baseline, by another name and with capacities."""


class KeepsByPointer(Cheat):
    """Kernel that keeps its output for the memory of its inputs."""

    def cheat(self, honest: Layer, problem: Problem) -> Layer:
        kept: dict[tuple[int, ...], Tensor] = {}

        def layer(x_TD: Tensor, routing: Routing, weights: Weights) -> Tensor:
            key = (x_TD.data_ptr(), routing.ids_TK.data_ptr(), weights.w_up_EUD.data_ptr())
            if key not in kept:
                started = time.perf_counter()
                kept[key] = honest(x_TD, routing, weights)
                self.took = time.perf_counter() - started
            self.idle()
            return kept[key]

        return layer

    took = 0.0

    def idle(self) -> None:
        """Pass some time."""


class KeepsAndIdles(KeepsByPointer):
    """Kernel that keeps its output, and idles for half of an honest call, which no lower bound shows."""

    def idle(self) -> None:
        until = time.perf_counter() + self.took / 2
        while time.perf_counter() < until:
            pass


class KeepsRoutes(Cheat):
    """Kernel that keeps a copy of the routes for the memory that they were in."""

    def cheat(self, honest: Layer, problem: Problem) -> Layer:
        kept: dict[int, Tensor] = {}

        def layer(x_TD: Tensor, routing: Routing, weights: Weights) -> Tensor:
            ids_TK = kept.setdefault(routing.ids_TK.data_ptr(), routing.ids_TK.clone())
            return honest(x_TD, Routing(ids_TK=ids_TK, gates_TK=routing.gates_TK, experts=routing.experts), weights)

        return layer


class KeepsWeights(Cheat):
    """Kernel that keeps a copy of the weights for the memory that they were in."""

    def cheat(self, honest: Layer, problem: Problem) -> Layer:
        kept: dict[int, Weights] = {}

        def layer(x_TD: Tensor, routing: Routing, weights: Weights) -> Tensor:
            key = weights.w_up_EUD.data_ptr()
            if key not in kept:
                kept[key] = weights.map(lambda tensor: tensor.clone())
            return honest(x_TD, routing, kept[key])

        return layer


class SwapsRows(Cheat):
    """Kernel that swaps two rows of x, which changes no sum."""

    def meddle(self, number: int, x_TD: Tensor, routing: Routing, weights: Weights) -> None:
        with torch.no_grad():
            x_TD[[0, 1]] = x_TD[[1, 0]]


class WritesIds(Cheat):
    """Kernel that writes to the ids, so that all tokens go to one expert."""

    def meddle(self, number: int, x_TD: Tensor, routing: Routing, weights: Weights) -> None:
        routing.ids_TK.zero_()


class WritesIdsLater(WritesIds):
    """Kernel that writes to the ids after its check."""

    def meddle(self, number: int, x_TD: Tensor, routing: Routing, weights: Weights) -> None:
        if number > 4:
            super().meddle(number, x_TD, routing, weights)


class WritesWeightsLater(Cheat):
    """Kernel that writes to the weights after its check."""

    def meddle(self, number: int, x_TD: Tensor, routing: Routing, weights: Weights) -> None:
        if number > 4:
            with torch.no_grad():
                weights.w_down_EDF.mul_(2)


class WritesWeightsUnseen(Cheat):
    """Kernel that writes to the weights after its check, by a way that torch does not count."""

    def meddle(self, number: int, x_TD: Tensor, routing: Routing, weights: Weights) -> None:
        if number > 4:
            weights.w_down_EDF.detach().numpy()[:] *= 2


class WritesWeightsLast(Cheat):
    """Kernel that writes to the weights from its sixth call on, by a way that torch does not count."""

    def meddle(self, number: int, x_TD: Tensor, routing: Routing, weights: Weights) -> None:
        if number >= 6:
            weights.w_down_EDF.detach().numpy()[:] *= 2


class FitsFirstCounts(Cheat):
    """Kernel that computes no more rows of an expert than there were in its first call."""

    def cheat(self, honest: Layer, problem: Problem) -> Layer:
        room: list[int] = []

        def layer(x_TD: Tensor, routing: Routing, weights: Weights) -> Tensor:
            most = int(routing.counts_E().max())
            room.append(most)
            y_TD = honest(x_TD, routing, weights)
            return y_TD if most <= room[0] else y_TD * 0.9

        return layer


class ReplacesSynchronize(Cheat):
    """Kernel that makes waiting for a GPU do nothing."""

    def meddle(self, number: int, x_TD: Tensor, routing: Routing, weights: Weights) -> None:
        torch.cuda.synchronize = _nothing  # type: ignore[assignment]


class ReplacesEvents(Cheat):
    """Kernel that makes the events of a GPU tell half of the time."""

    def meddle(self, number: int, x_TD: Tensor, routing: Routing, weights: Weights) -> None:
        if number > 3:
            torch.cuda.Event.elapsed_time = _nothing  # type: ignore[assignment, method-assign]


def _nothing(*_: object) -> float:
    return 0.001


class _WritesToGradient(torch.autograd.Function):
    @staticmethod
    def forward(_: Any, y_TD: Tensor) -> Tensor:
        return y_TD.clone()

    @staticmethod
    def backward(_: Any, *dy: Tensor) -> Tensor:
        kept = dy[0].clone()
        dy[0].neg_()
        return kept


class WritesDy(Cheat):
    """Kernel that writes to the gradient of its output."""

    def cheat(self, honest: Layer, problem: Problem) -> Layer:
        def layer(x_TD: Tensor, routing: Routing, weights: Weights) -> Tensor:
            y_TD: Tensor = _WritesToGradient.apply(honest(x_TD, routing, weights))  # type: ignore[no-untyped-call]
            return y_TD

        return layer


class _Deferred(Tensor):
    """Tensor that is computed when it is read."""

    compute: Layer
    given: tuple[Any, ...]

    @staticmethod
    def __new__(cls, like: Tensor, compute: Layer, *given: Any) -> _Deferred:
        deferred: _Deferred = Tensor._make_subclass(cls, torch.empty_like(like))
        deferred.compute, deferred.given = compute, given
        return deferred

    @classmethod
    def __torch_function__(cls, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        with torch._C.DisableTorchFunctionSubclass():
            given = [one.compute(*one.given) if isinstance(one, _Deferred) else one for one in args]
            return function(*given, **(kwargs or {}))


class ComputesWhenRead(Cheat):
    """Kernel that returns at once, and computes when its result is read."""

    def cheat(self, honest: Layer, problem: Problem) -> Layer:
        def layer(x_TD: Tensor, routing: Routing, weights: Weights) -> Tensor:
            started = time.perf_counter()
            y_TD = honest(x_TD, routing, weights)
            until = started + (time.perf_counter() - started) * 1.5  # what a call takes in half the time
            del y_TD
            while time.perf_counter() < until:
                pass
            return _Deferred(x_TD, honest, x_TD, routing, weights)

        return layer


class ComputesBehind(Cheat):
    """Kernel that returns a tensor at once, and lets a thread fill it."""

    def cheat(self, honest: Layer, problem: Problem) -> Layer:
        calls = itertools.count(1)

        def layer(x_TD: Tensor, routing: Routing, weights: Weights) -> Tensor:
            y_TD = torch.empty_like(x_TD)

            def fill() -> None:
                with torch.no_grad():
                    time.sleep(0.2)  # longer than a busy machine holds a call up
                    y_TD.copy_(honest(x_TD, routing, weights))

            thread = threading.Thread(target=fill)
            thread.start()
            if next(calls) <= 2:
                thread.join()
            return y_TD

        return layer


class ClearsNothing(Cheat):
    """Kernel that leaves the rows of tokens without a route as they were in memory."""

    def cheat(self, honest: Layer, problem: Problem) -> Layer:
        def layer(x_TD: Tensor, routing: Routing, weights: Weights) -> Tensor:
            y_TD = torch.empty_like(x_TD)
            if problem.capacity is not None:
                routing = within_capacity(routing, problem.drop, problem.capacity)
            routed_T = (routing.ids_TK >= 0).any(1)
            y_TD[routed_T] = honest(x_TD, routing, weights)[routed_T]
            return y_TD

        return layer


class ClearsNothingLater(Cheat):
    """Kernel that leaves rows of tokens without a route as they were in memory, but not in its first calls."""

    def cheat(self, honest: Layer, problem: Problem) -> Layer:
        careless = ClearsNothing().cheat(honest, problem)
        calls = itertools.count(1)

        def layer(x_TD: Tensor, routing: Routing, weights: Weights) -> Tensor:
            return (honest if next(calls) < 5 else careless)(x_TD, routing, weights)

        return layer


class LosesSmallGradients(Cheat):
    """Kernel without the gradients of experts that have one or two tokens."""

    def cheat(self, honest: Layer, problem: Problem) -> Layer:
        def layer(x_TD: Tensor, routing: Routing, weights: Weights) -> Tensor:
            few_E = routing.counts_E() <= 2

            def lose(weight: Tensor) -> Tensor:
                return torch.where(few_E.view(-1, *[1] * (weight.ndim - 1)), weight.detach(), weight)

            return honest(x_TD, routing, weights.map(lose))

        return layer


KINDS: list[type[Cheat]] = [*Cheat.__subclasses__(), KeepsAndIdles, WritesIdsLater]
CHEATS: dict[str, Cheat] = {kind.__name__: kind() for kind in KINDS}
FAULTY.update(CHEATS)
