"""The static model: the time of a configuration predicted without running it, step by step.

Predictions rank configurations and explain the rank. They never take the place of a measurement.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch

from ...common.names import unknown
from ...kernels.config import Config
from ...kernels.hardware.gpus import DATA_SHEETS, DataSheet
from ...kernels.kernel import Kernel
from ...kernels.problem import Problem
from ...kernels.problem.routing import Routing
from ...kernels.steps import CALL_S, Rates
from ...results.record import Roofline

# Shares of a data sheet's rates that large products and copies reach; power is what limits the former.
FLOPS_REACHED = 0.8
BYTES_REACHED = 0.9


@dataclass(frozen=True, kw_only=True)
class EstimatePart:
    """One step: its time, and the reason for it in one line."""

    name: str
    seconds: float
    why: str


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """The predicted time of one configuration: its steps, which run one after the other."""

    config: Config
    parts: tuple[EstimatePart, ...]

    @property
    def seconds(self) -> float:
        """Seconds of the whole call."""
        return sum(part.seconds for part in self.parts)


def estimate(
    kernel: Kernel, problem: Problem, config: Config, routing: Routing, rates: Rates, device: torch.device
) -> Estimate | None:
    """Return the predicted time of one call, or None for a kernel without a static model.

    ``routing`` already lacks the routes that the capacity drops. Within `assuming`, ``device`` represents another one.
    """
    steps = kernel.steps(problem, config, routing, device)
    parts = tuple(EstimatePart(name=step.name, seconds=step.seconds(rates), why=step.why(rates)) for step in steps)
    return Estimate(config=config, parts=parts) if parts else None


def predict(
    kernel: Kernel,
    problem: Problem,
    configs: Sequence[Config],
    routing: Routing,
    rates: Rates,
    device: torch.device,
) -> list[float] | None:
    """Return the predicted seconds of every configuration, or None for a kernel without a static model."""
    found = []
    for config in configs:
        steps = kernel.steps(problem, config, routing, device)
        if not steps:
            return None
        found.append(sum(step.seconds(rates) for step in steps))
    return found


def rates(roofline: Roofline, device_type: Literal["cpu", "cuda"]) -> Rates:
    """Return the rates that a device was measured to reach."""
    return Rates(flops_per_s=roofline.flops_per_s, bytes_per_s=roofline.bytes_per_s, call_s=CALL_S[device_type])


def rates_of_target(name: str, dtype: str) -> Rates:
    """Return the rates that a GPU should reach, by the data sheet of a target.

    Raises:
        UnknownName: for an unknown target or dtype, with the nearest names.
    """
    if name not in DATA_SHEETS:
        raise unknown("target", name, list(DATA_SHEETS))
    return rates_of_sheet(DATA_SHEETS[name], dtype)


def rates_of_sheet(sheet: DataSheet, dtype: str) -> Rates:
    """Return the rates that a GPU should reach, by its data sheet.

    Raises:
        UnknownName: for an unknown dtype, with the nearest names.
    """
    if dtype not in sheet.flops_per_s:
        raise unknown("dtype", dtype, list(sheet.flops_per_s))
    return Rates(
        flops_per_s=FLOPS_REACHED * sheet.flops_per_s[dtype],
        bytes_per_s=BYTES_REACHED * sheet.bytes_per_s,
        call_s=CALL_S["cuda"],
    )
