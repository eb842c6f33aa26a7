"""What there is to choose from for a problem, and what the static model says of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field

import torch

from ..kernels.catalog import KERNELS
from ..kernels.gpu.hardware import HARDWARE, assuming
from ..kernels.kernel import Config, Kernel
from ..kernels.oracle import drop
from ..kernels.problem import InvalidProblem, Problem
from ..kernels.routers import route
from ..kernels.routing import Routing
from ..kernels.steps import Rates
from ..kernels.tensors import TORCH_DTYPES
from ..kernels.trace import PREFIX
from ..results.machine import Machine
from ..results.memory import give_back
from .prune import compiled_faults
from .replay import Sweep
from .space import Space
from .static import Estimate, estimate, predict, rates, rates_of_target, target_of
from .strategy import DEFAULT
from .worker import DeviceType

CPU = torch.device("cpu")


@dataclass(kw_only=True)
class Candidates:
    """The configurations of ``kernel`` on ``device``, or with a ``target`` on that GPU, which need not be here."""

    kernel: Kernel
    device: torch.device
    target: str | None = None
    _spaces: dict[Problem, Space] = field(default_factory=dict)
    _rates: dict[str, Rates] = field(default_factory=dict)
    _routings: dict[Problem, Routing] = field(default_factory=dict)

    def space(self, problem: Problem) -> Space:
        """What can be built for a problem.

        Raises:
            NoConfiguration: when nothing can.
        """
        if problem not in self._spaces:
            with self._there():
                self._spaces[problem] = Space.of(self.kernel, problem, self.device)
        return self._spaces[problem]

    def refusal(self, problem: Problem) -> str | None:
        """None, or why the kernel cannot take a problem there."""
        with self._there():
            return self.kernel.supports(problem, self.device)

    def drop_what_compiles_badly(self, problem: Problem) -> Iterator[int]:
        """Compile all candidates but the default, and leave out what spills or does not compile; counts them.

        Raises:
            InvalidProblem: where the device is no GPU that can be compiled for.
        """
        space = self.space(problem)
        target = self.gpu
        if target is None:
            raise InvalidProblem(f"{self.device} is no GPU that kernels are compiled for: give a --target")
        faults: dict[int, str] = {}
        for done, (index, fault) in enumerate(compiled_faults(self.kernel.name, problem, space.configs, target)):
            if fault and index != DEFAULT:
                faults[index] = fault
            yield done + 1
        self._spaces[problem] = space.without(faults)

    @property
    def device_type(self) -> DeviceType:
        """What workers measure on."""
        return "cuda" if self.device.type == "cuda" else "cpu"

    @property
    def gpu(self) -> str | None:
        """The target that stands for the device, None where there is none."""
        if self.target is None and self.device.type == "cuda":
            return target_of(torch.cuda.get_device_name(self.device))
        return self.target

    def predict(self, problem: Problem, configs: Sequence[Config]) -> Sequence[float] | None:
        """Seconds that each should take, None where there is no model of the kernel."""
        with self._there():
            return predict(self.kernel, problem, configs, self._routing(problem), self._rate(problem), self.device)

    def estimate(self, problem: Problem, config: Config) -> Estimate | None:
        """What the time of one is made of."""
        with self._there():
            return estimate(self.kernel, problem, config, self._routing(problem), self._rate(problem), self.device)

    @contextmanager
    def _there(self) -> Iterator[None]:
        if self.target is None:
            yield
        else:
            with assuming(HARDWARE[self.target]):
                yield

    def _routing(self, problem: Problem) -> Routing:
        """The routes that the first check of a trial has."""
        if problem not in self._routings:
            self._routings[problem] = drop(problem, route(problem, seed=2 * problem.seed + 1, device=CPU))
        return self._routings[problem]

    def _rate(self, problem: Problem) -> Rates:
        """From the data sheet of a GPU, so that no context is made on it here; of another device as measured."""
        if problem.dtype not in self._rates:
            target = self.gpu
            self._rates[problem.dtype] = (
                rates_of_target(target, problem.dtype)
                if target
                else rates(Machine(self.device).roofline(TORCH_DTYPES[problem.dtype]), self.device_type)
            )
            give_back(self.device)  # to the worker that measures
        return self._rates[problem.dtype]


def predictions_of(sweep: Sweep) -> Sequence[float] | None:
    """What the static model says of a recorded sweep, on the device and at the rates that its records tell."""
    record = sweep.default
    if record.roofline is None or str(record.problem.get("load")).startswith(PREFIX):
        return None  # a record does not say which files are read
    problem = sweep.problem
    kernel, kind = KERNELS.load(record.kernel), record.environment.device_type
    target = target_of(record.environment.device)
    routing = drop(problem, route(problem, seed=2 * problem.seed + 1, device=CPU))
    with assuming(HARDWARE[target]) if target else nullcontext():
        return predict(kernel, problem, sweep.space.configs, routing, rates(record.roofline, kind), CPU)
