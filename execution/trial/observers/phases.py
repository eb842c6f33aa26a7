"""Observer of the phases of a call on several ranks: computing, communicating, waiting for the slowest rank."""

from __future__ import annotations

import statistics
from collections.abc import Callable

import torch

from ....kernels.expert_parallel.comm_stream import CommStream, SynchronizedStream, TimedStream, now_ns
from ....kernels.expert_parallel.communicates import Communicates
from ....kernels.kernel import Layer
from ....results.record import Phases
from ....results.timing.disturbance import Watch
from ..across_ranks import gather, gather_floats, in_step
from .observer import ObservedCall, on_stream, sharing

CALLS = 3  # of each kind: the median of so few is good to a few per cent, which is enough for shares of a call
MOST_CALLS = 9  # of each kind, those included that others disturbed


class PhaseObserver:
    """Watches further calls of a layer on several ranks. All ranks must observe together."""

    field = "phases"

    def applies(self, layer: Layer) -> bool:
        return sharing(layer) is not None

    def observe(self, observed: ObservedCall, watch: Watch) -> Phases | None:
        if (layer := sharing(observed.layer)) is None:
            raise ValueError("phases are those of a layer on several ranks")
        return _phases(layer, observed, observed.device, watch)


def _phases(layer: Communicates, call: Callable[[], object], device: torch.device, watch: Watch) -> Phases | None:
    """Return medians over `CALLS` undisturbed calls of each of two kinds, on every rank; None if there are too few.

    In the first kind every collective starts on all ranks together, which tells waiting from communicating; the rest is
    computing. The second kind runs as the call is timed, and tells how long communication lasted, and for how much of
    it the computation had to wait.
    """
    apart, whole = [], []
    for _ in range(MOST_CALLS):
        stream = SynchronizedStream(device)
        total_ns, quiet = _timed(layer, stream, call, device, watch)
        if quiet:
            compute_ns = total_ns - stream.communication_ns - stream.waiting_ns
            apart.append((compute_ns, stream.communication_ns, stream.waiting_ns))
        if len(apart) == CALLS:
            break
    for _ in range(MOST_CALLS):
        watched = TimedStream(layer.comm_stream, device)
        _, quiet = _timed(layer, watched, call, device, watch)
        if quiet:
            whole.append((watched.busy_ns, watched.exposed_ns))
        if len(whole) == CALLS:
            break
    if min(len(apart), len(whole)) < CALLS:
        return None
    mine = [float(statistics.median(of_calls)) for of_calls in (*zip(*apart, strict=True), *zip(*whole, strict=True))]
    names = ("compute_ns", "communication_ns", "waiting_ns", "busy_ns", "exposed_ns")
    everyone = zip(*gather_floats(mine), strict=True)
    return Phases(**{name: list(of_ranks) for name, of_ranks in zip(names, everyone, strict=True)})


def _timed(
    layer: Communicates, stream: CommStream, call: Callable[[], object], device: torch.device, watch: Watch
) -> tuple[int, bool]:
    """Return the nanoseconds of a call that all ranks begin together, and whether nobody disturbed it on any rank.

    Its collectives are on ``stream``.
    """
    with on_stream(layer, stream):
        in_step()
        watch.start()
        started = now_ns(device)
        call()
        total_ns = now_ns(device) - started
        return total_ns, not any(gather(watch.stop().disturbed or 0))
