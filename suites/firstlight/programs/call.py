"""Calls of layers for a profiler (``traced`` of a form) or a memory checker (``tiny`` of a form)."""

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
    """Read the arguments, the form and ``traced`` or ``tiny``, and call one training step or every layout."""
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
            for kernel, supported in layers([problem.replace(mode=mode)]):
                prepared(kernel, supported, device)()
                synchronize(device)
                print(f"{kernel} {supported.key}: called")  # noqa: T201  # the log shows the last call before a crash


def prepared(kernel_name: str, problem: Problem, device: torch.device) -> Callable[[], Result]:
    """Return a function that calls a layer in its default configuration on newly drawn inputs."""
    kernel = KERNELS.load(kernel_name)
    inputs = draw_inputs(problem, draw_weights(problem, seed=0, device=device), seed=1, device=device)
    if problem.mode == "train":
        inputs.requires_grad_()
    layer = kernel.build(problem, kernel.space(problem, device)[0], device)
    return lambda: call(problem, layer, inputs)


@contextmanager
def watched(device: torch.device) -> Iterator[None]:
    """Switch on a profiler that was started with ``--profile-from-start off``, for the block only."""
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
    """Wait for a CUDA device; do nothing on a CPU."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


if __name__ == "__main__":
    main()
