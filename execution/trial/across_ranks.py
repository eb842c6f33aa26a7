"""Values agreed on by all ranks: every rank keeps the time of the slowest and the errors of the worst."""

from __future__ import annotations

import math
import os
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import torch
import torch.distributed as dist

from ...results.record import Clocks, Error, Roofline
from ...results.timing.clock import Clock, Ended, Sample, keep_nothing
from ...results.timing.disturbance import Disturbance

NOT_WATCHED: Final = -1.0  # a sample's disturbance, where it is None


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


def sum_of_devices(device: str, value: float | None) -> float | None:
    """Return the sum over the devices of all ranks, each counted once; None where it is not known of all.

    ``device`` names this rank's device on its machine: the value of ranks with one device is one value.
    """
    mine = [_machine(), float(zlib.crc32(device.encode())), math.nan if value is None else value]
    of_devices = {(machine, code): found for machine, code, found in gather_floats(mine)}
    total = sum(of_devices.values())
    return None if math.isnan(total) else total


def in_step() -> None:
    """Wait until all ranks have come to this call."""
    if ranks() > 1:
        dist.barrier()


def gather(value: int) -> list[int]:
    """Return one integer of every rank, in order of rank."""
    return [int(of_rank[0]) for of_rank in gather_floats([value])]


def of_first_rank(values: Sequence[int]) -> list[int]:
    """Return the integers of rank 0."""
    count = gather(len(values))[0]
    mine = [*values, *[0] * count][:count]
    return [int(value) for value in gather_floats(mine)[0]] if count else []


def processes_here() -> list[int]:
    """Return the processes of all ranks that run on this machine and see the same processes."""
    here = _machine()
    everyone = gather_floats([here, os.getpid()])
    return [int(pid) for machine, pid in everyone if machine == here]


def worst_of_ranks(errors: dict[str, Error]) -> dict[str, Error]:
    """Return each error as it is on the rank where it is largest."""
    figures = tuple(Error.model_fields)
    everyone = gather_floats([getattr(error, figure) for error in errors.values() for figure in figures])
    largest = iter([max(column) for column in zip(*everyone, strict=True)])
    return {name: Error(**{figure: next(largest) for figure in figures}) for name in errors}


def roofline_of_ranks(roofline: Roofline) -> Roofline:
    """Return the sums of the rates of all ranks. All ranks must have measured them at the same time."""
    everyone = gather_floats([roofline.flops_per_s, roofline.bytes_per_s, float(roofline.disturbed)])
    flops_per_s, bytes_per_s, disturbed = (sum(column) for column in zip(*everyone, strict=True))
    return Roofline(flops_per_s=flops_per_s, bytes_per_s=bytes_per_s, disturbed=disturbed > 0)


class LockstepClock:
    """A clock whose sample starts on all ranks together and lasts until the slowest has finished."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.name = clock.name
        self.cache = clock.cache

    def state(self) -> Clocks | None:
        return self._clock.state()

    def prepare(self, calls: Sequence[Callable[[], object]], ended: Ended = keep_nothing) -> Callable[[], Sample]:
        sample = self._clock.prepare(calls, ended)

        def together() -> Sample:
            if ranks() == 1:
                return sample()
            in_step()
            mine = sample()
            everyone = gather_floats([mine.ns, float(mine.throttled), _coded(mine.disturbed)])
            longest, throttled, code = (max(column) for column in zip(*everyone, strict=True))
            disturbed = None if code == NOT_WATCHED else Disturbance(int(code))
            return Sample(ns=longest, throttled=bool(throttled), calls=mine.calls, disturbed=disturbed)

        return together


def _machine() -> float:
    """Return a number that ranks share which see the same processes: the machine's boot and the namespace."""
    boot, namespace = Path("/proc/sys/kernel/random/boot_id"), Path("/proc/self/ns/pid")
    try:
        return float(zlib.crc32(f"{boot.read_text()} {namespace.readlink()}".encode()))
    except OSError:  # a system that does not tell: what others take is not read there either
        return 0.0


def _coded(disturbed: Disturbance | None) -> float:
    return NOT_WATCHED if disturbed is None else float(disturbed)
