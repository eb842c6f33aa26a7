"""Deterministic counters of one implementation on one problem: by its cost, and of one call that is watched."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch

from ...execution.trial.observers.sent_bytes import planned_traffic
from ...execution.trial.reference_check import call
from ...execution.trial.work import work_of
from ...kernels.config import Config
from ...kernels.kernel import Kernel
from ...kernels.problem import Problem
from ...kernels.problem.routing import Routing
from ...kernels.problem.tensors import Inputs, draw_inputs, draw_weights, without_values
from ...results.counters import Number
from ...results.record import Work
from ...results.timing.clock import no_garbage_collection
from ...results.timing.memory import count_saved, peak
from ...results.timing.operators import count_operators

DIGITS = 6  # of a share


def of_problem(work: Work) -> dict[str, Number]:
    """Return the counters that depend on the problem only, not on the implementation."""
    return {
        "useful_flops": work.useful_flops,
        "ideal_bytes": work.ideal_bytes,
        "drop_rate": round(work.drop_rate, DIGITS),
    }


def of_cost(
    kernel: Kernel, problem: Problem, config: Config, routed: Routing, kept: Routing, device: torch.device
) -> dict[str, Number]:
    """Return the counters of the cost, without a call; with the bytes of the static cost model where there is one."""
    cost = kernel.cost(problem, config, kept)
    work = work_of(problem, routed, kept, cost, kernel.question)
    found: dict[str, Number] = {"executed_flops": work.executed_flops, "workspace_bytes": cost.workspace_bytes}
    if work.executed_flops:
        found["padding"] = round(1 - work.useful_flops / work.executed_flops, DIGITS)
    if problem.ranks > 1:
        sent = planned_traffic(cost.traffic)
        found["node_bytes"] = sum(sent.node_bytes)
        found["across_bytes"] = sum(sent.across_bytes)
        found["messages"] = sum(sent.messages)
    if steps := kernel.steps(problem, config, kept, device):
        found["modelled_bytes"] = round(sum(step.moved_bytes for step in steps))
    return found


def of_call(kernel: Kernel, problem: Problem, config: Config, device: torch.device) -> dict[str, Number]:
    """Return the memory, operators and host waits of one call, and on ``meta`` the launches of Triton kernels."""
    inputs = _inputs(kernel, problem, device)
    layer = kernel.build(problem, config, device)
    without = tuple(inputs.weights.named().values())
    with undisturbed(), _launches(device) as launches, count_operators() as operators, count_saved(without) as saved:
        _, peak_bytes = peak(lambda: call(problem, layer, inputs), device)
    found: dict[str, Number] = {
        "peak_bytes": peak_bytes,
        "operators": operators.started,
        "host_waits": operators.waits,
    }
    if problem.mode == "train":
        found["saved_bytes"] = saved.bytes
    if device.type == "meta":
        found["launches"] = len(launches)
    return found


@contextmanager
def undisturbed() -> Iterator[None]:
    """Run the block on one thread, without garbage collection. The counters depend on neither, and take less time."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with no_garbage_collection():
            yield
    finally:
        torch.set_num_threads(threads)


@contextmanager
def _launches(device: torch.device) -> Iterator[Sequence[object]]:
    """Record the launches of Triton kernels on ``meta``, where there are no values to run them on."""
    if device.type != "meta":
        yield ()
        return
    from ...kernels.triton.launch import recording  # noqa: PLC0415  # imports Triton

    with recording() as launches:
        yield launches


def _inputs(kernel: Kernel, problem: Problem, device: torch.device) -> Inputs:
    if device.type == "meta":
        inputs = without_values(problem)
    else:
        weights = draw_weights(problem, seed=problem.seed, device=device)
        inputs = draw_inputs(problem, weights, seed=problem.seed + 1, device=device)
    inputs = kernel.question.given(problem, inputs, problem.seed + 1)
    return inputs.requires_grad_() if problem.mode == "train" else inputs
