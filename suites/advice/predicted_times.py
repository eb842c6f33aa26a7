"""Times by the static model, where nothing was measured: of kernels with a model, at rates measured or of data sheets.

On a CPU each kernel has the configuration that is its fastest by the model, as `auto` would choose it. On a GPU, where
no prediction was compared with a measurement yet, it has its default.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from ...autotune.search.static_model import rates_of_sheet
from ...kernels.catalog import KERNELS
from ...kernels.config import Config
from ...kernels.cost_model.expert_rows import expected_routing
from ...kernels.kernel import Kernel
from ...kernels.problem import InvalidProblem, Problem
from ...kernels.problem.load import Load
from ...kernels.problem.router import Router
from ...kernels.tuned.select import Choice, TimeModel
from ...results.record.advice import AdviceSource
from ...results.timing.memory import available_bytes, needs
from .advised_device import CPU, AdvisedDevice
from .timed_dispatch import PhaseTimes, TimedDispatch

MOST_CHOICES: Final = 2**18
"""Largest E times K whose popularity is computed: a third of a GiB and some seconds; no released model has a tenth."""
DRAWN_BYTES = 24  # of a token and an expert while routes are drawn: six tensors in float32


def predicted_times(problem: Problem, device: AdvisedDevice) -> PhaseTimes:
    """Return the predicted times of all kernels that have a model for the device; none for an unknown device.

    Raises:
        InvalidProblem: when this machine has no memory to draw the routes of the load.
    """
    if device.kind == "cpu" and not device.here:
        return PhaseTimes(dispatches=[], left_out=["the static model of a CPU is for the machine that it runs on"])
    if device.kind == "cuda" and device.sheet is None:
        return PhaseTimes(dispatches=[], left_out=[f"there is no data sheet of {device.name} to predict by"])
    if problem.E * problem.K > MOST_CHOICES:
        why = f"E = {problem.E} times K = {problem.K} is too large for the static model, which takes {MOST_CHOICES}"
        return PhaseTimes(dispatches=[], left_out=[why])
    _check_drawing(problem)
    with device.assumed():
        left_out: list[str] = []
        able = list(_able(problem, device, left_out))
        return PhaseTimes(dispatches=list(_predicted(problem, device, able)), left_out=left_out)


def peak_bytes(kernel: Kernel, problem: Problem, config: Config) -> int:
    """Return an estimate of the bytes that a call allocates beyond its inputs, at the peak, as records count them."""
    return kernel.cost(problem, config, expected_routing(problem)).workspace_bytes + problem.output_bytes


def _able(problem: Problem, device: AdvisedDevice, left_out: list[str]) -> Iterator[Choice]:
    """Yield the kernels of the device that have a model and take the problem, in their defaults."""
    for kernel in map(KERNELS.load, KERNELS.names()):
        if device.kind not in kernel.devices or type(kernel).steps is Kernel.steps or not kernel.answers(problem):
            continue
        if reason := kernel.supports(problem, device.torch):
            left_out.append(f"{kernel.name}: {reason}")
            continue
        space = kernel.space(problem, device.torch)
        default = next((config for config in space if kernel.valid(problem, config, device.torch)), None)
        if default is None:
            left_out.append(f"{kernel.name}: has no valid configuration")
        else:
            yield Choice(kernel, default, "")


def _predicted(problem: Problem, device: AdvisedDevice, able: list[Choice]) -> Iterator[TimedDispatch]:
    if device.sheet is None:
        model = TimeModel.of(problem, CPU)
        found = [(one.kernel, one.config, one.seconds) for one in model.ranked(able)]
        basis = f"predicted at {model.source}, not measured"
    else:
        rates = rates_of_sheet(device.sheet, problem.dtype)
        basis = f"predicted by the data sheet of {device.sheet.name}, not measured"
        model = TimeModel(
            problem=problem, rates=rates, source=basis, device=device.torch, routing=expected_routing(problem)
        )
        timed = [(one, model.seconds(one.kernel, one.config)) for one in able]
        found = [(one.kernel, one.config, seconds) for one, seconds in timed if seconds is not None]
    for kernel, config, seconds in found:
        yield TimedDispatch(
            kernel=kernel.name,
            config=config,
            source=AdviceSource.predicted,
            basis=basis,
            seconds=seconds,
            peak_bytes=peak_bytes(kernel, problem, config),
            compared=device.kind == "cpu",
        )


def _check_drawing(problem: Problem) -> None:
    closed_form = Load.parse(problem.load).recorded_tokens is None and Router.parse(problem.router).follows_load
    needed, available = DRAWN_BYTES * problem.T * problem.E, available_bytes(CPU)
    if not closed_form and needed > available:
        raise InvalidProblem(f"T = {problem.T}: drawing the routes {needs(needed, available)}: give fewer tokens")
