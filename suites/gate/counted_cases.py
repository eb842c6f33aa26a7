"""The cases of the deterministic gate: every implementation, at problems of released models.

Costs, and calls on tensors without memory, are counted at full scale; calls that run on a CPU are scaled down.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import cache
from itertools import chain

import torch

from ...autotune.search.space import Space
from ...common.errors import in_one_line
from ...execution.trial.work import work_of
from ...kernels.catalog import KERNELS
from ...kernels.compiler.survey import META
from ...kernels.hardware.device_limits import assuming
from ...kernels.hardware.gpus import HARDWARE
from ...kernels.implementations._triton import TritonKernel
from ...kernels.kernel import Cost, Kernel
from ...kernels.oracle import drop
from ...kernels.problem import Problem
from ...kernels.problem.draw_routes import draw_routes
from ...kernels.problem.models import model
from ...kernels.problem.routing import Routing
from ...results.counters import Number, Value
from .call_counters import of_call, of_cost, of_problem, undisturbed

CPU = torch.device("cpu")
PROBLEM = "problem"
"""The family of what depends on the problem alone."""

_MIXTRAL = model("Mixtral-8x7B").problem(T=8192, dtype="bfloat16", mode="train")
_QWEN3 = model("Qwen3-30B-A3B").problem(T=8192, dtype="bfloat16", mode="train")
# Few wide experts and many narrow ones; training, prefill in float8 and decoding; dropless, and dropping under a
# balanced load and under a skewed one; on one rank, and on two nodes of four.
PROBLEMS: dict[str, tuple[Problem, ...]] = {
    "Mixtral-8x7B": (
        _MIXTRAL,
        _MIXTRAL.replace(capacity_factor=1.0),
        _MIXTRAL.replace(mode="forward", dtype="float8_e4m3fn"),
        _MIXTRAL.replace(mode="forward", T=16),
    ),
    "Qwen3-30B-A3B": (
        _QWEN3,
        _QWEN3.replace(capacity_factor=1.25, load="zipf:0.5"),
        _QWEN3.replace(mode="forward", T=16),
        _QWEN3.replace(ranks=8),
        _QWEN3.replace(ranks=8, capacity_factor=1.25),
    ),
}
"""At full scale, by the model that they are a layer of."""
RANKS_PER_NODE = 4
SMALL_T, SMALL_D = 256, 128

Part = Callable[[Kernel, Problem, Space, torch.device], dict[str, Number]]


def small(problem: Problem) -> Problem:
    """Return the problem scaled down to run on a CPU."""
    return problem.scaled(SMALL_D).replace(T=min(problem.T, SMALL_T))


@dataclass(frozen=True, kw_only=True)
class CountedCase:
    """One implementation at a layer of a ``model``, on the CPU or as on a ``target``; ``parts`` are what is counted."""

    kernel: Kernel
    model: str
    problem: Problem
    parts: tuple[Part, ...]
    target: str | None = None

    @property
    def point(self) -> str:
        """The name of the case in the files of counters."""
        where = f" on {self.target}" if self.target else ""
        return f"{self.kernel.name}{where}, {_title(self.model, self.problem)}"

    def count(self) -> dict[str, Number]:
        """Return the counters of the case.

        Raises:
            Refused: when the implementation does not take the problem there.
        """
        device = META if self.target else CPU
        with assuming(HARDWARE[self.target]) if self.target else nullcontext():
            if refusal := self.kernel.supports(self.problem, device):
                raise Refused(refusal)
            problem = self.kernel.solves(self.problem)
            space = Space.of(self.kernel, problem, device)
            return dict(chain.from_iterable(part(self.kernel, problem, space, device).items() for part in self.parts))


class Refused(ValueError):
    """An implementation does not take a problem; the message says why."""


@dataclass(frozen=True, kw_only=True)
class Counted:
    """Counters by family, and by point the reason why there are none: ``refused`` by the kernel, or ``broken``."""

    families: dict[str, dict[str, Mapping[str, Value]]] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    broken: dict[str, str] = field(default_factory=dict)


def count(kernels: Sequence[str]) -> Counted:
    """Return the counters of the problems, and of implementations by name.

    Raises:
        UnknownName: for an unknown implementation.
    """
    counted = Counted()
    with undisturbed(), _nodes_of(RANKS_PER_NODE):
        counted.families[PROBLEM] = {_title(name, problem): _asked(problem) for name, problem in _problems()}
        for case in chain.from_iterable(_cases(KERNELS.load(name)) for name in kernels):
            try:
                counted.families.setdefault(case.kernel.family, {})[case.point] = case.count()
            except Refused as refusal:
                counted.refused[case.point] = str(refusal)
            except Exception as error:  # noqa: BLE001  # whatever an implementation raises, the others are counted
                counted.broken[case.point] = in_one_line(error)
    return counted


@contextmanager
def _nodes_of(ranks: int) -> Iterator[None]:
    """Place ranks on nodes of ``ranks``, by the variable that torchrun sets."""
    name = "LOCAL_WORLD_SIZE"
    before = os.environ.get(name)
    os.environ[name] = str(ranks)
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


def _problems() -> Iterator[tuple[str, Problem]]:
    for name, problems in PROBLEMS.items():
        for problem in problems:
            yield name, problem


def _cases(kernel: Kernel) -> Iterator[CountedCase]:
    """Yield the cases of a kernel: in Triton for every GPU, else its cost at full scale and a call on the CPU."""
    for name, problem in _problems():
        if isinstance(kernel, TritonKernel):
            for target in HARDWARE:
                yield CountedCase(kernel=kernel, model=name, problem=problem, parts=(_computed, _called), target=target)
            continue
        yield CountedCase(kernel=kernel, model=name, problem=problem, parts=(_computed,))
        if problem.ranks == 1:
            yield CountedCase(kernel=kernel, model=name, problem=small(problem), parts=(_called,))


def _computed(kernel: Kernel, problem: Problem, space: Space, device: torch.device) -> dict[str, Number]:
    routed, kept = _routes(problem)
    return {**of_cost(kernel, problem, space.default, routed, kept, device), **of_space(space)}


def of_space(space: Space) -> dict[str, Number]:
    """Return the sizes of a search space, declared and buildable; nothing where there is no choice."""
    return {"configs": space.declared, "valid_configs": len(space)} if space.declared > 1 else {}


def _called(kernel: Kernel, problem: Problem, space: Space, device: torch.device) -> dict[str, Number]:
    return of_call(kernel, problem, space.default, device)


def _asked(problem: Problem) -> dict[str, Number]:
    return of_problem(work_of(problem, *_routes(problem), Cost(executed_rows=0, workspace_bytes=0)))


@cache  # dropping goes route by route, and all kernels share the result
def _routes(problem: Problem) -> tuple[Routing, Routing]:
    """Return all routes, and those that the capacity keeps."""
    routed = draw_routes(problem, seed=problem.seed, device=CPU)
    return routed, drop(problem, routed)


def _title(name: str, problem: Problem) -> str:
    width = "" if problem.D == model(name).D else f" D={problem.D}"
    capacity = "" if problem.capacity_factor is None else f" cf={problem.capacity_factor:g}"
    load = "" if problem.load == "uniform" else f" {problem.load}"
    ranks = "" if problem.ranks == 1 else f" ranks={problem.ranks}"
    return f"{name}{width} T={problem.T} {problem.mode} {problem.dtype}{capacity}{load}{ranks}"
