"""Observer of the stages of a call: for how long it routes, dispatches, multiplies, combines, communicates."""

from __future__ import annotations

import time
from contextlib import AbstractContextManager, nullcontext
from typing import Final, get_args

from ....kernels.expert_parallel.comm_stream import SynchronizedStream
from ....kernels.instruments.stage import StageName, StageRecorder, record_stages
from ....kernels.kernel import Layer
from ....results.record import Stages
from ....results.timing.clock import no_garbage_collection
from ....results.timing.cuda_clock import MAX_BLOCK_MS, keep_busy
from ....results.timing.device_functions import synchronize
from ....results.timing.disturbance import Watch
from ..across_ranks import gather, gather_floats, in_step
from .observer import ObservedCall, on_stream, sharing

CALLS: Final = 5  # of which the one of the median time is kept: an odd number
MOST_CALLS: Final = 15  # those included that others disturbed
NAMES: Final[tuple[StageName, ...]] = get_args(StageName)


class StageObserver:
    """Watches further calls of a layer, with warm caches. All ranks must observe together.

    On a GPU the device is kept busy until the calls are enqueued, as a cold clock does, for twice as long as enqueuing
    the call before took: stages are the device's time without gaps between launches. A call that waits for the device
    itself has these gaps in its stages, as in use.
    """

    field = "stages"

    def applies(self, layer: Layer) -> bool:
        return True

    def observe(self, observed: ObservedCall, watch: Watch) -> Stages | None:
        """Return the stages of the call of median time; None where others disturbed too many calls."""
        _, enqueued_ms, _ = _recorded(observed, watch, 0.0)  # a first one, in which memory is allocated
        calls: list[tuple[float, dict[StageName, float]]] = []
        for _ in range(MOST_CALLS):
            recorder, enqueued_ms, quiet = _recorded(observed, watch, enqueued_ms)
            if quiet:
                calls.append(_mean_of_ranks(recorder))
            if len(calls) == CALLS:
                break
        if len(calls) < CALLS:
            return None
        whole_ns, stages_ns = sorted(calls, key=lambda one: one[0])[CALLS // 2]
        return Stages(stages_ns=stages_ns, whole_ns=whole_ns)


def _recorded(observed: ObservedCall, watch: Watch, enqueued_ms: float) -> tuple[StageRecorder, float, bool]:
    """Make a call that all ranks begin together.

    Returns its recorder, the milliseconds that the host took, and whether nobody disturbed it on any rank.
    """
    device, layer = observed.device, sharing(observed.layer)
    stream: AbstractContextManager[None] = nullcontext()
    if layer is not None:
        stream = on_stream(layer, SynchronizedStream(device))
    with stream, no_garbage_collection():
        in_step()
        if device.type == "cuda":
            synchronize()
            if layer is None:  # ranks wait for each other on the host
                keep_busy(min(2 * enqueued_ms, MAX_BLOCK_MS))
        watch.start()
        started = time.perf_counter()
        with record_stages(device) as recorder:
            result = observed()
        enqueued_ms = 1e3 * (time.perf_counter() - started)
        if device.type == "cuda":
            synchronize()
        quiet = not any(gather(watch.stop().disturbed or 0))
    del result
    return recorder, enqueued_ms, quiet


def _mean_of_ranks(recorder: StageRecorder) -> tuple[float, dict[StageName, float]]:
    """Return the time of a call and of the stages that it had on any rank, in nanoseconds."""
    stages_ns, whole_ns = recorder.times_ns()
    everyone = gather_floats([whole_ns, *(stages_ns.get(name, -1.0) for name in NAMES)])
    whole, *columns = zip(*everyone, strict=True)
    had = {name: column for name, column in zip(NAMES, columns, strict=True) if max(column) >= 0}
    mean = {name: sum(max(ns, 0.0) for ns in column) / len(column) for name, column in had.items()}
    return sum(whole) / len(whole), mean
