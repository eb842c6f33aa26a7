"""Which kernel runs a problem when nobody has measured it: the first of an order that measurements suggest."""

from __future__ import annotations

import torch

from .catalog import KERNELS
from .kernel import Config, Kernel
from .problem import Problem

AUTO = "auto"
ON_CUDA = ("triton_scatter", "triton_padded", "grouped", "scatter", "padded")
SCATTER_ROWS = 256  # rows for each expert from which scatter beats grouped on a CPU (docs/performance.md)


def preference(problem: Problem, device: torch.device) -> tuple[str, ...]:
    """The names that ``auto`` tries in turn.

    On CUDA the kernels in Triton come first. On a CPU scatter, whose tiles stay in cache, is the fastest where experts
    have many rows, and grouped, which multiplies all experts in one call, where they have few. Both refuse a capacity,
    which leaves padded.
    """
    if device.type == "cuda":
        return ON_CUDA
    many = problem.N >= SCATTER_ROWS * problem.E
    return ("scatter", "grouped", "padded") if many else ("grouped", "scatter", "padded")


def choose(problem: Problem, device: torch.device, dispatch: str = AUTO) -> tuple[Kernel, Config]:
    """The kernel of that name, or the first supporting one of `preference`, with its first valid configuration.

    Raises:
        UnknownName: for a name that is no kernel's.
        ValueError: when none can run the problem, with the reason of each that was tried.
    """
    reasons = []
    for name in preference(problem, device) if dispatch == AUTO else (dispatch,):
        kernel = KERNELS.load(name)
        reason = kernel.supports(problem, device)
        if reason is None and kernel.solves(problem) != problem:
            reason = "is a reference rate, which computes something else"
        if reason is None:
            for config in kernel.space(problem, device):
                if kernel.valid(problem, config, device):
                    return kernel, config
            reason = f"has no valid configuration for {problem.key} on {device}"
        reasons.append(f"{name}: {reason}")
    remedy = (
        "change what is named here" if dispatch == AUTO else f"change what is named here, or try dispatch = {AUTO!r}"
    )
    raise ValueError(f"no kernel can run this; {'; '.join(reasons)}; {remedy}")
