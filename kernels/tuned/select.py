"""Choice of the kernel and the configuration for a problem: by tuned tables, else by a fixed order of preference."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch

from ..catalog import KERNELS
from ..config import Config
from ..kernel import Kernel
from ..problem import Problem
from .lookup import Found, look_up, stale_wanted

AUTO = "auto"
FEW_ROWS = 256  # below so many rows for each expert grouped beats scatter on a CPU (docs/performance.md)


class Choice(NamedTuple):
    """A kernel, its configuration, and the reason for both."""

    kernel: Kernel
    config: Config
    why: str


def preference(problem: Problem, device: torch.device) -> tuple[str, ...]:
    """Return the names that ``auto`` tries in turn: the order of `Kernel.preference` for the type of the device.

    On a CPU the kernels that suit few rows come first where experts have few.
    """
    kernels = KERNELS.preferred(device.type)
    if device.type == "cpu" and problem.N < FEW_ROWS * problem.E:
        kernels.sort(key=lambda kernel: not kernel.suits_few_rows)
    return tuple(kernel.name for kernel in kernels)


def choose(problem: Problem, device: torch.device, dispatch: str = AUTO) -> Choice:
    """Return the kernel of that name, or the first supporting one of `preference`, tuned for the problem.

    Without a tuned table for the problem the kernel runs in its first valid configuration. Where tables cover the first
    supporting kernel and a faster one, the faster one is chosen. Tables of other versions count only with
    MOEBENCH_TUNED_STALE=1.

    Raises:
        UnknownName: when no kernel has that name.
        ValueError: when no kernel can run the problem, with the reason of each that was tried.
    """
    reasons: list[str] = []
    able = _able(preference(problem, device) if dispatch == AUTO else (dispatch,), problem, device, reasons)
    first = next(able, None)
    if first is None:
        remedy = "change what is named here" + ("" if dispatch == AUTO else f", or try dispatch = {AUTO!r}")
        raise ValueError(f"no kernel can run this; {'; '.join(reasons)}; {remedy}")
    tuned = look_up(problem, first.kernel.name, device, stale=stale_wanted())
    if not isinstance(tuned, Found):
        return first._replace(why=f"{first.why}; {tuned.reason}")
    fastest, kernel = tuned, first.kernel
    for other in able:
        rival = look_up(problem, other.kernel.name, device, stale=stale_wanted())
        if isinstance(rival, Found) and rival.seconds < fastest.seconds:
            fastest, kernel = rival, other.kernel
    return Choice(kernel, fastest.config, fastest.why)


def _able(names: tuple[str, ...], problem: Problem, device: torch.device, reasons: list[str]) -> Iterator[Choice]:
    """Yield the kernels that can run the problem, in their defaults; add to ``reasons`` why the others cannot."""
    for name in names:
        kernel = KERNELS.load(name)
        reason = kernel.supports(problem, device)
        if reason is None and not kernel.answers(problem):
            reason = "is a reference rate, which computes something else"
        if reason is None:
            for config in kernel.space(problem, device):
                if kernel.valid(problem, config, device):
                    yield Choice(kernel, config, "the kernel's default")
                    break
            else:
                reason = f"has no valid configuration for {problem.key} on {device}"
        if reason is not None:
            reasons.append(f"{name}: {reason}")
