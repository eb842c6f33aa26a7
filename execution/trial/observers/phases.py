"""Observer of the phases of a call on several ranks: computing, communicating, waiting for the slowest rank."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

from ....kernels.expert_parallel.comm_stream import CommStream, SynchronizedStream, TimedStream, now_ns
from ....kernels.expert_parallel.communicates import Communicates
from ....kernels.kernel import Layer
from ....results.record import Phases
from ..across_ranks import gather_floats, in_step
from .observer import ObservedCall, sharing

CALLS = 5  # of each kind: the median of so few is good to a few per cent, which is enough for shares of a call


class PhaseObserver:
    """Watches further calls of a layer on several ranks. All ranks must observe together."""

    field = "phases"

    def applies(self, layer: Layer) -> bool:
        return sharing(layer) is not None

    def observe(self, observed: ObservedCall) -> Phases:
        if (layer := sharing(observed.layer)) is None:
            raise ValueError("phases are those of a layer on several ranks")
        return _phases(layer, observed, observed.device)


def _phases(layer: Communicates, call: Callable[[], object], device: torch.device) -> Phases:
    """Return medians over `CALLS` calls of each of two kinds, on every rank.

    In the first kind every collective starts on all ranks together, which tells waiting from communicating; the rest is
    computing. The second kind runs as the call is timed, and tells how long communication lasted, and for how much of
    it the computation had to wait.
    """
    compute, communication, waiting, busy, exposed = [], [], [], [], []
    for _ in range(CALLS):
        stream = SynchronizedStream(device)
        total_ns = _timed(layer, stream, call, device)
        communication.append(stream.communication_ns)
        waiting.append(stream.waiting_ns)
        compute.append(total_ns - stream.communication_ns - stream.waiting_ns)
    for _ in range(CALLS):
        watched = TimedStream(layer.comm_stream, device)
        _timed(layer, watched, call, device)
        busy.append(watched.busy_ns)
        exposed.append(watched.exposed_ns)
    mine = [float(statistics.median(of_calls)) for of_calls in (compute, communication, waiting, busy, exposed)]
    names = ("compute_ns", "communication_ns", "waiting_ns", "busy_ns", "exposed_ns")
    everyone = zip(*gather_floats(mine), strict=True)
    return Phases(**{name: list(of_ranks) for name, of_ranks in zip(names, everyone, strict=True)})


def _timed(layer: Communicates, stream: CommStream, call: Callable[[], object], device: torch.device) -> int:
    """Return the nanoseconds of a call that all ranks begin together, with its collectives on ``stream``."""
    with _on(layer, stream):
        in_step()
        started = now_ns(device)
        call()
        return now_ns(device) - started


@contextmanager
def _on(layer: Communicates, stream: CommStream) -> Iterator[None]:
    before = layer.comm_stream
    layer.comm_stream = stream
    try:
        yield
    finally:
        layer.comm_stream = before
