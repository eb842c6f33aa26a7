"""Call layers a few times, to be looked at by a profiler or a memory checker: ``traced`` or ``tiny`` of a form."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

from ....execution.trial.reference_check import call
from ....kernels.catalog import KERNELS
from ....kernels.oracle import Result
from ....kernels.problem import Problem
from ....kernels.problem.tensors import draw_inputs, draw_weights
from ..forms import form
from .precompile import layers

PROFILED = "triton_scatter"


def main() -> None:
    """Arguments: the form, and what to call: one training step that a profiler sees, or every layout once."""
    name, which = sys.argv[1:]
    chosen = form(name)
    device = torch.device(chosen.device)
    if which == "traced":
        step = prepared(PROFILED, chosen.traced.replace(mode="train"), device)
        step()
        with watched(device):
            step()
        return
    for problem in (chosen.tiny, chosen.tiny.replace(capacity_factor=1.25)):
        for mode in ("forward", "train"):
            for kernel, of in layers([problem.replace(mode=mode)]):
                prepared(kernel, of, device)()
                synchronize(device)
                print(f"{kernel} {of.key}: called")  # noqa: T201  # the log says what came last


def prepared(kernel_name: str, problem: Problem, device: torch.device) -> Callable[[], Result]:
    """One call of a layer in its default configuration, on inputs of its own."""
    kernel = KERNELS.load(kernel_name)
    inputs = draw_inputs(problem, draw_weights(problem, seed=0, device=device), seed=1, device=device)
    if problem.mode == "train":
        inputs.requires_grad_()
    layer = kernel.build(problem, kernel.space(problem, device)[0], device)
    return lambda: call(problem, layer, inputs)


@contextmanager
def watched(device: torch.device) -> Iterator[None]:
    """Be seen by a profiler that was started with ``--profile-from-start off``."""
    synchronize(device)
    if device.type != "cuda":
        yield
        return
    torch.cuda.profiler.start()
    try:
        yield
        synchronize(device)
    finally:
        torch.cuda.profiler.stop()


def synchronize(device: torch.device) -> None:
    """Wait for the device, where there is one to wait for."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


if __name__ == "__main__":
    main()
