"""Where the time of a call on several ranks goes: computing, communicating, waiting for the slowest rank."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

from ...kernels.expert_parallel.comm_stream import CommStream, InStep, Watched, now_ns
from ...kernels.expert_parallel.communicates import Communicates
from ...results.record import Phases
from .across_ranks import gather_floats, in_step

CALLS = 5  # of each kind: the median of so few is good to a few per cent, as shares of a call want to be


def phases(layer: Communicates, call: Callable[[], object], device: torch.device) -> Phases:
    """Medians over some calls, on every rank. All ranks must ask together.

    Calls whose collectives all ranks start together tell waiting from communicating; what is left is computing. Calls
    as they are timed tell how long communication lasted, and for how much of it the computation stood still.
    """
    compute, communication, waiting, busy, exposed = [], [], [], [], []
    for _ in range(CALLS):
        lane = InStep(device)
        total_ns = _timed(layer, lane, call, device)
        communication.append(lane.communication_ns)
        waiting.append(lane.waiting_ns)
        compute.append(total_ns - lane.communication_ns - lane.waiting_ns)
    for _ in range(CALLS):
        watched = Watched(layer.lane, device)
        _timed(layer, watched, call, device)
        busy.append(watched.busy_ns)
        exposed.append(watched.exposed_ns)
    mine = [float(statistics.median(of_calls)) for of_calls in (compute, communication, waiting, busy, exposed)]
    names = ("compute_ns", "communication_ns", "waiting_ns", "busy_ns", "exposed_ns")
    everyone = zip(*gather_floats(mine), strict=True)
    return Phases(**{name: list(of_ranks) for name, of_ranks in zip(names, everyone, strict=True)})


def _timed(layer: Communicates, lane: CommStream, call: Callable[[], object], device: torch.device) -> int:
    """Nanoseconds of a call that all ranks begin together, its collectives on another lane."""
    with _on(layer, lane):
        in_step()
        started = now_ns(device)
        call()
        return now_ns(device) - started


@contextmanager
def _on(layer: Communicates, lane: CommStream) -> Iterator[None]:
    before = layer.lane
    layer.lane = lane
    try:
        yield
    finally:
        layer.lane = before
