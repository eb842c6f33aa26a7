"""Memory that the trial itself needs: allocated, or the reason why it could not be, the same on every rank."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import torch

from ....common.errors import in_one_line
from ....results.record import Status
from ....results.timing.memory import GIB, available_bytes
from ..across_ranks import gather
from ..failure import ending

T = TypeVar("T")


@dataclass(frozen=True)
class Short:
    """A shortage of memory: the estimated bytes that were ``needed``, and the reason as a sentence."""

    needed: int
    reason: str


def afford(take: Callable[[], T], *, what: str, needed: int, device: torch.device) -> T | Short:
    """Return the result of ``take``, or `Short` when any rank runs out of memory in it; ``what`` names its purpose.

    All ranks must call this together, and ``take`` must not communicate: then all of them return the same kind of
    answer.
    """
    figures = f"{what} needs about {needed / GIB:.1f} GiB, {least_available(device) / GIB:.1f} GiB were available"
    taken: list[T] = []
    ended = ""
    try:
        taken.append(take())
    except Exception as error:
        if ending(error) is not Status.out_of_memory:
            raise
        ended = in_one_line(error)  # the error itself would keep alive what had been allocated
    if any(gather(bool(ended))):
        return Short(needed, f"{figures}: {ended or 'too little on another rank'}")
    return taken[0]


def least_available(device: torch.device) -> int:
    """Return the bytes that can still be allocated on the device of the fullest rank."""
    return min(gather(available_bytes(device)))
