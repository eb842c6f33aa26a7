"""Kernels that crash, hang and fail on rank 1 only; a task that names them registers them in workers."""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.distributed as dist
from faulty_kernels import FAULTY, Dies, Faulty, Hangs, Name, Raises, RunsOutOfMemory
from torch import Tensor

from moebench.execution.trial.reference_check import ReferenceCheck, Subject
from moebench.kernels.catalog import KERNELS
from moebench.kernels.config import Config
from moebench.kernels.expert_parallel.communicates import Communicates
from moebench.kernels.kernel import Cost, Layer
from moebench.kernels.problem import Problem
from moebench.kernels.problem.routing import Routing
from moebench.kernels.problem.tensors import Weights

PARALLEL = "alltoall"
CORRECT = KERNELS.load(PARALLEL)


class OnRankOne(Faulty):
    """Layer over several ranks that is right on all but one."""

    def supports(self, problem: Problem, device: torch.device) -> str | None:
        return CORRECT.supports(problem, device)

    def space(self, problem: Problem, device: torch.device) -> list[Config]:
        return CORRECT.space(problem, device)

    def cost(self, problem: Problem, config: Config, routing: Routing) -> Cost:
        return CORRECT.cost(problem, config, routing)

    def build(self, problem: Problem, config: Config, device: torch.device) -> Layer:
        correct = CORRECT.build(problem, config, device)

        def layer(x_TD: Tensor, routing: Routing, weights: Weights) -> Tensor:
            y_TD = correct(x_TD, routing, weights)
            return self.falsify(y_TD, x_TD, weights) if dist.get_rank() == 1 else y_TD

        return layer


class DiesOnRankOne(OnRankOne, Dies):
    """Dispatcher that kills the process of rank 1."""


class HangsOnRankOne(OnRankOne, Hangs):
    """Dispatcher whose rank 1 never returns while the others wait for it."""


class RaisesOnRankOne(OnRankOne, Raises):
    """Dispatcher whose rank 1 raises an exception while the others wait for it."""


class RunsOutOfMemoryOnRankOne(OnRankOne, RunsOutOfMemory):
    """Dispatcher whose rank 1 asks for more memory than there is while the others wait for it."""


class SendsTooMuch(OnRankOne):
    """Dispatcher whose rank 1 sends rank 0 one byte more than its routes need."""

    def build(self, problem: Problem, config: Config, device: torch.device) -> Layer:
        layer = CORRECT.build(problem, config, device)
        built: object = layer
        if isinstance(built, Communicates) and dist.get_rank() == 1:
            built.traffic.send(0, 1)
        return layer


class KeepsOnRankOne(OnRankOne):
    """Dispatcher whose rank 1 keeps its first output for the memory of its tokens."""

    def falsify(self, y_TD: Tensor, x_TD: Tensor, weights: Weights) -> Tensor:
        return self.kept.setdefault(x_TD.data_ptr(), y_TD)

    kept: ClassVar[dict[int, Tensor]] = {}


class WritesOnRankOne(OnRankOne):
    """Dispatcher whose rank 1 writes to its weights once it was checked."""

    calls = 0

    def falsify(self, y_TD: Tensor, x_TD: Tensor, weights: Weights) -> Tensor:
        self.calls += 1
        if self.calls > 4:
            weights.w_down_EDF.mul_(2)
        return y_TD


TOO_LARGE = 13  # a seed: the inputs and the reference of its problem do not fit rank 1


def _draw(subject: Subject, weights: Weights, *, seed: int, device: torch.device, width: int = 0) -> ReferenceCheck:
    if subject.problem.seed == TOO_LARGE and dist.get_rank() == 1:
        raise torch.OutOfMemoryError("tried to allocate 1000 GiB")
    return _check_draw(subject, weights, seed=seed, device=device, width=width)


_check_draw = ReferenceCheck.draw
ReferenceCheck.draw = staticmethod(_draw)  # type: ignore[method-assign]  # the fault that is injected


class RankName(Name):
    """Kernel name whose unpickling in a worker imports this module."""

    __slots__ = ()


FAULTY |= {kind.__name__: kind() for kind in OnRankOne.__subclasses__()}
