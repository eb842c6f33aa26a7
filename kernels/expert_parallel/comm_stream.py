"""Streams that collectives run on: in turn with the computation, overlapped with it, or timed."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from ...common.cores import roam
from ..instruments.stage import Mark, length_ns, marker, stage

Span = tuple[Mark, Mark]
Result = TypeVar("Result")


class Pending(Protocol):
    """A tensor that a job is still making."""

    def wait(self) -> Tensor:
        """Wait for the tensor and return it to the computation that follows."""


class CommStream(Protocol):
    """A queue of jobs. They run one after the other in the order of submission, which must be the same on all ranks."""

    def submit(self, job: Callable[[], Tensor]) -> Pending: ...


@dataclass(frozen=True)
class Done:
    """A tensor that needs no wait."""

    tensor: Tensor

    def wait(self) -> Tensor:
        return self.tensor


class SerialStream:
    """Stream that runs every job at once: communication is not overlapped."""

    def submit(self, job: Callable[[], Tensor]) -> Pending:
        with stage("communication"):
            return Done(job())


class ThreadStream:
    """Stream of jobs for a CPU; a separate thread runs them."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="moebench-communication", initializer=roam)

    def submit(self, job: Callable[[], Tensor]) -> Pending:
        return _InThread(self._thread.submit(_without_grad, job))


@dataclass(frozen=True)
class _InThread:
    future: Future[Tensor]

    def wait(self) -> Tensor:
        with stage("communication"):
            return self.future.result()


def _without_grad(job: Callable[[], Tensor]) -> Tensor:
    with torch.no_grad():  # the mode of the thread that submits is not that of this one
        return job()


class CudaStream:
    """Stream of jobs on a GPU, after the work queued so far on the current CUDA stream. The host does not wait."""

    def __init__(self) -> None:
        self._stream = torch.cuda.Stream()

    def submit(self, job: Callable[[], Tensor]) -> Pending:
        self._stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._stream):
            tensor = job()
        return _OnStream(tensor, self._stream.record_event())


@dataclass(frozen=True)
class _OnStream:
    tensor: Tensor
    done: torch.cuda.Event

    def wait(self) -> Tensor:
        with stage("communication"):
            torch.cuda.current_stream().wait_event(self.done)
        self.tensor.record_stream(torch.cuda.current_stream())
        return self.tensor


def stream_for(device: torch.device, chunks: int) -> CommStream:
    """Return the stream for a number of chunks: with one there is nothing to overlap with."""
    if chunks == 1:
        return SerialStream()
    return CudaStream() if device.type == "cuda" else ThreadStream()


class SynchronizedStream:
    """Stream that starts every job on all ranks together, so that waits for the slowest rank are counted apart."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self.waiting_ns = 0
        self.communication_ns = 0

    def submit(self, job: Callable[[], Tensor]) -> Pending:
        ready = now_ns(self._device)
        with stage("waiting"):
            dist.barrier()
        started = now_ns(self._device)
        with stage("communication"):
            tensor = job()
        self.waiting_ns += started - ready
        self.communication_ns += now_ns(self._device) - started
        return Done(tensor)


class TimedStream:
    """Stream that times the jobs of another: how long they took, and for how much of that the computation waited."""

    def __init__(self, stream: CommStream, device: torch.device) -> None:
        self._stream = stream
        self._mark: Callable[[], Mark] = marker(device)
        self._busy: list[Span] = []
        self._exposed: list[Span] = []

    def submit(self, job: Callable[[], Tensor]) -> Pending:
        def timed() -> Tensor:
            return self._span(self._busy, job)

        pending = self._span(self._exposed, lambda: self._stream.submit(timed))
        return _Watched(lambda: self._span(self._exposed, pending.wait))

    @property
    def busy_ns(self) -> float:
        return sum(length_ns(*span) for span in self._busy)

    @property
    def exposed_ns(self) -> float:
        return sum(length_ns(*span) for span in self._exposed)

    def _span(self, spans: list[Span], do: Callable[[], Result]) -> Result:
        start = self._mark()
        result = do()
        spans.append((start, self._mark()))
        return result


@dataclass(frozen=True)
class _Watched:
    wait: Callable[[], Tensor]


def now_ns(device: torch.device) -> int:
    """Return the time when the device has finished its queued work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter_ns()
