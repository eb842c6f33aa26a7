"""Clocks for NVIDIA devices: device events around a call, with the caches cold or hot.

``cold`` is a call that finds nothing of its own in the L2, as after the rest of a model has run. ``hot`` is a call in
the steady state of a CUDA graph, without launch gaps, whose inputs come from memory because they rotate over more
buffers than the L2 holds. Neither number contains the host's launches.

Where several ranks time one call that communicates, all must call it equally often: every decision
to call again is taken from the slowest rank.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import cycle
from typing import Final, Protocol, Self

import torch
import torch.distributed as dist

from ..record import CacheState, Clocks
from .clock import (
    WARM_UPS,
    ClockName,
    Ended,
    Flush,
    Sample,
    keep_nothing,
    no_garbage_collection,
    rotation,
    throttled,
)
from .device_functions import DeviceEvent, synchronize
from .energy.energy_per_run import joules_per_run
from .nvml import NVML_TICK_MS, Telemetry

BLOCK_MS: Final = 1.0  # several times what it takes to enqueue a layer of some dozen kernels
MAX_BLOCK_MS: Final = 128.0  # longer than enqueuing any layer takes; a call not enqueued by then waits for the device
SLEEP_CYCLES_PER_MS: Final = 2_000_000  # no device is clocked far above 2 GHz; on a slower one the block lasts longer
EVENT_MS: Final = 1e-3  # resolution of an event; shorter times are rounded up to it


class CannotCapture(Exception):
    """The call cannot be captured in a CUDA graph, so there is no hot number; the message says why."""


class Event(Protocol):
    """A point in the device's queue, as ``torch.cuda.Event``."""

    def record(self) -> None:
        """Put the event at the end of the queue."""

    def query(self) -> bool:
        """Return whether the device has passed the event."""

    def elapsed_time(self, end: Self, /) -> float:
        """Return the milliseconds from this event to ``end``; the device must have passed both."""


class CudaDevice(Protocol):
    """The operations that a clock needs of a device. All but ``synchronize`` and ``capture`` only enqueue."""

    l2_bytes: int

    def flush(self) -> None:
        """Replace the contents of the L2 by clean lines."""

    def block(self, ms: float) -> None:
        """Keep the device busy for at least ``ms`` milliseconds."""

    def event(self) -> Event:
        """Return a new event that records the time."""

    def synchronize(self) -> None:
        """Wait until the device has done all enqueued work."""

    def slowest(self, value: float) -> float:
        """Return the largest value of all ranks; on one rank the value itself."""

    def capture(self, calls: Sequence[Callable[[], object]]) -> Callable[[], object]:
        """Warm up, capture all the calls in one graph, and return a function that enqueues the graph.

        That function returns the result of the last call, whose memory the graph does not use again.

        Raises:
            CannotCapture: when a call synchronises or does something else that a graph cannot hold.
        """


class TorchCudaDevice:
    """The current CUDA device and stream of torch."""

    def __init__(self) -> None:
        self.l2_bytes = torch.cuda.get_device_properties().L2_cache_size
        self._flush = Flush(self.l2_bytes, "cuda")

    def flush(self) -> None:
        self._flush()

    def block(self, ms: float) -> None:
        keep_busy(ms)

    def event(self) -> DeviceEvent:
        return DeviceEvent()

    def synchronize(self) -> None:
        synchronize()

    def slowest(self, value: float) -> float:
        if not (dist.is_available() and dist.is_initialized()):
            return value
        largest = torch.tensor(value, dtype=torch.float64)
        dist.all_reduce(largest, dist.ReduceOp.MAX)
        return largest.item()

    def capture(self, calls: Sequence[Callable[[], object]]) -> Callable[[], object]:
        # torch asks for warm-ups on a side stream, so that autograd sets up nothing on the stream that is captured.
        caller, side = torch.cuda.current_stream(), torch.cuda.Stream()
        side.wait_stream(caller)
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.stream(side):
                _run(calls, WARM_UPS)
                with _synchronising_is_an_error():
                    _run(calls, 1)
            caller.wait_stream(side)
            # A capture that fails leaves its own stream current; this one is put back in any case.
            with torch.cuda.stream(caller), torch.cuda.graph(graph):
                _run(calls[:-1], 1)
                result = calls[-1]()
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            why = str(error).partition("\n")[0]
            raise CannotCapture(f"no CUDA graph can hold the call: {why}; measure it cold") from error

        def replay() -> object:
            graph.replay()
            return result

        return replay


def _run(calls: Sequence[Callable[[], object]], times: int) -> None:
    # Results are dropped at once: the next call gets the same memory for its own, as in a model.
    for _ in range(times):
        for call in calls:
            call()


@contextmanager
def _synchronising_is_an_error() -> Iterator[None]:
    """Raise RuntimeError where torch would wait for the device.

    If the same error occurs during a capture instead, torch's allocator is unusable for the rest of the process.
    """
    mode = torch.cuda.get_sync_debug_mode()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch says that the mode is a prototype
        torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode(mode)


def keep_busy(ms: float) -> None:
    """Enqueue what keeps the current CUDA device busy for at least ``ms`` milliseconds."""
    # torch has no public kernel that waits.
    torch.cuda._sleep(int(ms * SLEEP_CYCLES_PER_MS))  # noqa: SLF001


class _Stopwatch:
    """Device time of work whose launches are hidden: the device is kept busy until the host has enqueued everything.

    The length of the block is found by doubling. Work that itself waits for the device can never be enqueued ahead; it
    is timed without the block, and its time contains the host's part, as it does in use.
    """

    def __init__(self, device: CudaDevice) -> None:
        self._device = device
        self._block_ms = BLOCK_MS

    def elapsed_ms(
        self, work: Callable[[], object], before: Callable[[], None] = lambda: None, ended: Ended = keep_nothing
    ) -> float:
        """Return the milliseconds of ``work``; ``before`` and ``ended`` are enqueued around it and not timed."""
        while True:
            start, stop = self._device.event(), self._device.event()
            with no_garbage_collection():
                before()
                if self._block_ms:
                    self._device.block(self._block_ms)
                start.record()
                result = work()
                stop.record()
                late = start.query()
                ended(result)
                self._device.synchronize()
            del result
            if not self._device.slowest(float(late)) or not self._block_ms:
                return start.elapsed_time(stop)
            self._block_ms = 2 * self._block_ms if self._block_ms < MAX_BLOCK_MS else 0.0


class ColdCudaClock:
    """One call with nothing of its own in the L2.

    Protocol: read twice the L2; block the device; start event; call; stop event; wait. Nothing waits between the
    flush and the start. The state has no energy: most of what the device spends here is the flush and the block. It is
    counted in calls of its own.
    """

    name: ClockName = "cuda_event"
    cache: CacheState = "cold"

    def __init__(self, device: CudaDevice, telemetry: Telemetry) -> None:
        self._device = device
        self._telemetry = telemetry

    def copies(self, read_bytes: int) -> int:
        return 1

    def prepare(self, calls: Sequence[Callable[[], object]], ended: Ended = keep_nothing) -> Callable[[], Sample]:
        _run(calls, WARM_UPS)
        self._device.synchronize()
        stopwatch, turns = _Stopwatch(self._device), cycle(calls)

        def sample() -> Sample:
            ms = stopwatch.elapsed_ms(next(turns), before=self._device.flush, ended=ended)
            return Sample(ns=1e6 * ms, throttled=throttled(self._telemetry))

        return sample

    def state(self) -> Clocks:
        return self._telemetry.state(energy_j=None)


class HotCudaClock:
    """One call among many in a CUDA graph that goes round buffers larger than the L2.

    Protocol: block the device; start event; replay the graph; stop event; wait; divide by the calls it holds. Samples
    are too short for the energy counter, so ``prepare`` replays for half a second to read it.
    """

    name: ClockName = "cuda_event"
    cache: CacheState = "hot"

    def __init__(self, device: CudaDevice, telemetry: Telemetry) -> None:
        self._device = device
        self._telemetry = telemetry
        self._energy_j: float | None = None

    def copies(self, read_bytes: int) -> int:
        return rotation(self._device.l2_bytes, read_bytes)

    def prepare(self, calls: Sequence[Callable[[], object]], ended: Ended = keep_nothing) -> Callable[[], Sample]:
        """See ``Clock.prepare``.

        Raises:
            CannotCapture: when a call synchronises or does something else that a graph cannot hold.
        """
        replay = self._device.capture(calls)
        _run([replay], WARM_UPS)
        self._device.synchronize()
        stopwatch = _Stopwatch(self._device)
        energy_j = self._energy_per_replay(replay, stopwatch.elapsed_ms(replay))

        def sample() -> Sample:  # keeps ``calls``, and with them the buffers that the graph reads
            ms = stopwatch.elapsed_ms(replay, ended=ended)
            self._energy_j = energy_j / len(calls) if energy_j else None
            return Sample(ns=1e6 * ms / len(calls), throttled=throttled(self._telemetry), calls=len(calls))

        return sample

    def state(self) -> Clocks:
        """Return the state of the device, with the energy of one call of the work sampled last."""
        return self._telemetry.state(energy_j=self._energy_j)

    def _energy_per_replay(self, replay: Callable[[], object], ms: float) -> float | None:
        """Return the joules of one replay, None where the device does not count them."""

        def replays(times: int) -> None:
            _run([replay], times)
            self._device.synchronize()

        ms = self._device.slowest(max(ms, EVENT_MS))
        return joules_per_run(replays, ms, self._telemetry.energy_j, tick_ms=NVML_TICK_MS)
