"""Observers around the first call of a layer: one call, watched by all of them, the first one outermost."""

from __future__ import annotations

import torch
from small_tasks import PROBLEM

from moebench.execution.trial.observers.observer import ObservedCall, Take, observe_first_call
from moebench.execution.trial.reference_check import call
from moebench.kernels.catalog import KERNELS
from moebench.kernels.oracle import Result
from moebench.kernels.problem.tensors import draw_inputs, draw_weights
from moebench.results.record import Memory


class Noting:
    """Observer that notes when the call begins and ends inside it."""

    def __init__(self, field: str, heard: list[str]) -> None:
        self.field = field
        self._heard = heard

    def observe(self, observed: ObservedCall, take: Take) -> tuple[Result, Memory]:
        self._heard.append(f"{self.field} begins")
        result = take()
        self._heard.append(f"{self.field} ends")
        return result, Memory(peak=len(self._heard), saved=0)


def test_observers_nest_around_one_call() -> None:
    cpu, kernel = torch.device("cpu"), KERNELS.load("loop")
    layer = kernel.build(PROBLEM, kernel.space(PROBLEM, cpu)[0], cpu)
    inputs = draw_inputs(PROBLEM, draw_weights(PROBLEM, seed=0, device=cpu), seed=1, device=cpu)
    calls = []

    def counted(*given: object) -> torch.Tensor:
        calls.append(given)
        return layer(inputs.x_TD, inputs.routing, inputs.weights)

    heard: list[str] = []
    observed = ObservedCall(kernel=kernel, config={}, problem=PROBLEM, layer=counted, inputs=inputs, device=cpu)
    result, found = observe_first_call((Noting("outer", heard), Noting("inner", heard)), observed)
    assert len(calls) == 1
    assert heard == ["outer begins", "inner begins", "inner ends", "outer ends"]
    assert found == {"inner": Memory(peak=3, saved=0), "outer": Memory(peak=4, saved=0)}
    torch.testing.assert_close(result.y_TD, call(PROBLEM, layer, inputs).y_TD)
