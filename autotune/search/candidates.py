"""Candidates of a search: the configurations for a problem, and what the static model predicts for them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field

import torch

from ...common.cores import usable_cores
from ...execution.workers.worker import DeviceType
from ...kernels.catalog import KERNELS
from ...kernels.compiler.compilers import Compilers
from ...kernels.compiler.machine_code import resources
from ...kernels.compiler.survey import unable
from ...kernels.config import Config
from ...kernels.hardware.device_limits import assuming, hardware
from ...kernels.hardware.gpus import DATA_SHEETS, HARDWARE, DataSheet, data_sheet_of, target_of
from ...kernels.implementations._triton import TritonKernel
from ...kernels.kernel import Kernel
from ...kernels.oracle import drop
from ...kernels.problem import InvalidProblem, Problem
from ...kernels.problem.draw_routes import check_seed, draw_routes
from ...kernels.problem.routing import Routing
from ...kernels.problem.tensors import TORCH_DTYPES
from ...kernels.problem.trace import PREFIX
from ...kernels.steps import Rates
from ...results.timing.memory import available_bytes, give_back, needs
from ...results.timing.roofline import MachineRates
from .compile_ahead import Ahead, Faults, none_known
from .recorded_sweep import RecordedSweep
from .space import Space
from .static_model import Estimate, estimate, predict, rates, rates_of_sheet
from .strategy import DEFAULT

CPU = torch.device("cpu")
DRAWN_BYTES = 24  # of a token and an expert while routes are drawn: six tensors in float32


@dataclass(kw_only=True)
class Candidates:
    """The configurations of ``kernel`` on ``device``, or on a ``target`` GPU, which this machine need not have."""

    kernel: Kernel
    device: torch.device
    target: str | None = None
    _spaces: dict[Problem, Space] = field(default_factory=dict)
    _rates: dict[str, Rates] = field(default_factory=dict)
    _routings: dict[Problem, Routing] = field(default_factory=dict)

    def space(self, problem: Problem) -> Space:
        """Return the configurations that can be built for a problem.

        Raises:
            NoConfiguration: when none can.
        """
        if problem not in self._spaces:
            with self._there():
                self._spaces[problem] = Space.of(self.kernel, problem, self.device)
        return self._spaces[problem]

    def refusal(self, problem: Problem) -> str | None:
        """Return None, or why the kernel cannot take a problem there."""
        with self._there():
            return self.kernel.supports(problem, self.device)

    @contextmanager
    def compiling(self) -> Iterator[Faults]:
        """Start compilers on all cores for the context; without a GPU to compile for there are no faults."""
        if self.uncompiled:
            yield none_known
            return
        with self._there():
            there = hardware(self.device)
        with Compilers(len(usable_cores()), resources) as compilers:
            yield Ahead(self.kernel.name, str(self.gpu), there, compilers)

    @property
    def uncompiled(self) -> str | None:
        """None, or why candidates are not compiled before they are measured, with the remedy."""
        if self.gpu is None:
            return f"{self.device} is no GPU that kernels are compiled for: give a --target"
        if not isinstance(self.kernel, TritonKernel):
            return f"{self.kernel.name} is no Triton kernel of moebench: it is compiled where it is measured"
        return unable()

    def leave_out_faults(self, problem: Problem, faults: Faults) -> Iterator[int]:
        """Leave all candidates with a fault out of the space except the default; yield the number compiled so far."""
        space, found = self.space(problem), dict[int, str]()
        for index, fault in enumerate(faults(problem, space.configs)):
            if fault and index != DEFAULT:
                found[index] = fault
            yield index + 1
        self._spaces[problem] = space.without(found)

    @property
    def device_type(self) -> DeviceType:
        """The type of the device that workers measure on, here or where the target is."""
        return "cuda" if self.device.type == "cuda" or self.target else "cpu"

    @property
    def gpu(self) -> str | None:
        """The compiler target of the device, None where it has none."""
        if self.target is None and self.device.type == "cuda":
            return target_of(torch.cuda.get_device_name(self.device))
        return self.target

    @property
    def _sheet(self) -> DataSheet | None:
        """The data sheet of the target or of the GPU, None where there is none."""
        if self.target is None and self.device.type == "cuda":
            return data_sheet_of(torch.cuda.get_device_name(self.device))
        return None if self.target is None else DATA_SHEETS[self.target]

    def predict(self, problem: Problem, configs: Sequence[Config]) -> Sequence[float] | None:
        """Return the predicted seconds of each configuration, None for a kernel without a static model."""
        with self._there():
            return predict(self.kernel, problem, configs, self._routing(problem), self._rate(problem), self.device)

    def estimate(self, problem: Problem, config: Config) -> Estimate | None:
        """Return the predicted time of one configuration step by step, None without a static model."""
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
        """Return the routes that the first check of a trial uses.

        Raises:
            InvalidProblem: when this machine has no memory to draw them.
        """
        if problem not in self._routings:
            needed, available = DRAWN_BYTES * problem.T * problem.E, available_bytes(CPU)
            if needed > available:
                short = f"drawing the routes {needs(needed, available)}"
                raise InvalidProblem(f"T = {problem.T}: {short}: give fewer tokens")
            self._routings[problem] = drop(problem, draw_routes(problem, seed=check_seed(problem), device=CPU))
        return self._routings[problem]

    def _rate(self, problem: Problem) -> Rates:
        """Return the rates of a GPU by its data sheet, which needs no context, or of another device as measured."""
        if problem.dtype not in self._rates:
            sheet = self._sheet
            self._rates[problem.dtype] = (
                rates_of_sheet(sheet, problem.dtype)
                if sheet
                else rates(MachineRates(self.device).roofline(TORCH_DTYPES[problem.dtype]), self.device_type)
            )
            give_back(self.device)  # to the worker that measures
        return self._rates[problem.dtype]


def predictions_of(sweep: RecordedSweep) -> Sequence[float] | None:
    """Return the static model's predictions for a recorded sweep, on the device and at the rates in its records.

    There are none where the load was a file or the roofline was not recorded.
    """
    record = sweep.default
    if record.roofline is None or str(record.problem.get("load")).startswith(PREFIX):
        return None  # a record has the name of a file of routes, not its content
    problem = sweep.problem
    kernel, kind = KERNELS.load(record.kernel), record.environment.device_type
    target = target_of(record.environment.device)
    routing = drop(problem, draw_routes(problem, seed=check_seed(problem), device=CPU))
    with assuming(HARDWARE[target]) if target else nullcontext():
        return predict(kernel, problem, sweep.space.configs, routing, rates(record.roofline, kind), CPU)
