"""What the harness itself allocates, or why there was no memory for it: the same answer on every rank."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import torch

from ...results.record import Status
from ...results.timing.memory import available_bytes
from .across_ranks import gather
from .failure import ending, first_line

GIB = 1 << 30
T = TypeVar("T")


@dataclass(frozen=True)
class Short:
    """There was too little memory: ``needed`` bytes as they were reckoned, and the figures in words."""

    needed: int
    reason: str


def afford(take: Callable[[], T], *, what: str, needed: int, device: torch.device) -> T | Short:
    """What ``take`` gives, or `Short` when memory ends in it on any rank; ``what`` says in words what it does.

    All ranks have to come here, and ``take`` must not communicate: so they leave in step, with the same kind of answer.
    """
    figures = f"{what} needs about {needed / GIB:.1f} GiB, {least_available(device) / GIB:.1f} GiB were available"
    taken: list[T] = []
    ended = ""
    try:
        taken.append(take())
    except Exception as error:
        if ending(error) is not Status.out_of_memory:
            raise
        ended = first_line(error)  # the error itself would keep alive what had been allocated
    if any(gather(bool(ended))):
        return Short(needed, f"{figures}: {ended or 'too little on another rank'}")
    return taken[0]


def least_available(device: torch.device) -> int:
    """Bytes that can still be allocated on the fullest rank's device."""
    return min(gather(available_bytes(device)))
