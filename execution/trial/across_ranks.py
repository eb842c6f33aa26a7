"""Values agreed on by all ranks: every rank keeps the time of the slowest and the errors of the worst."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.distributed as dist

from ...results.record import Clocks, Error, Roofline
from ...results.timing.clock import Clock, Sample


def ranks() -> int:
    """Return the number of ranks of the process group, 1 without one."""
    return dist.get_world_size() if dist.is_initialized() else 1


def rank() -> int:
    """Return the rank of this process, 0 without a process group."""
    return dist.get_rank() if dist.is_initialized() else 0


def gather_floats(values: Sequence[float]) -> list[list[float]]:
    """Return the values of every rank, in order of rank."""
    if ranks() == 1:
        return [list(values)]
    mine = torch.tensor(values, dtype=torch.float64)
    everyone = [torch.empty_like(mine) for _ in range(ranks())]
    dist.all_gather(everyone, mine)
    return [of_rank.tolist() for of_rank in everyone]


def slowest(value: float) -> float:
    """Return the largest of the values of all ranks."""
    return max(of_rank[0] for of_rank in gather_floats([value]))


def in_step() -> None:
    """Wait until all ranks have come to this call."""
    if ranks() > 1:
        dist.barrier()


def gather(value: int) -> list[int]:
    """Return one integer of every rank, in order of rank."""
    return [int(of_rank[0]) for of_rank in gather_floats([value])]


def worst_of_ranks(errors: dict[str, Error]) -> dict[str, Error]:
    """Return each error as it is on the rank where it is largest."""
    everyone = gather_floats([value for error in errors.values() for value in (error.norm, error.worst_row)])
    largest = [max(column) for column in zip(*everyone, strict=True)]
    return {name: Error(norm=largest[2 * index], worst_row=largest[2 * index + 1]) for index, name in enumerate(errors)}


def roofline_of_ranks(roofline: Roofline) -> Roofline:
    """Return the sums of the rates of all ranks. All ranks must have measured them at the same time."""
    everyone = gather_floats([roofline.flops_per_s, roofline.bytes_per_s])
    flops_per_s, bytes_per_s = (sum(column) for column in zip(*everyone, strict=True))
    return Roofline(flops_per_s=flops_per_s, bytes_per_s=bytes_per_s)


class LockstepClock:
    """A clock whose sample starts on all ranks together and lasts until the slowest has finished."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.name = clock.name
        self.cache = clock.cache

    def state(self) -> Clocks | None:
        return self._clock.state()

    def prepare(self, calls: Sequence[Callable[[], object]]) -> Callable[[], Sample]:
        sample = self._clock.prepare(calls)

        def together() -> Sample:
            if ranks() == 1:
                return sample()
            in_step()
            mine = sample()
            everyone = gather_floats([mine.ns, float(mine.throttled)])
            longest, throttled = (max(column) for column in zip(*everyone, strict=True))
            return Sample(ns=longest, throttled=bool(throttled), calls=mine.calls)

        return together
