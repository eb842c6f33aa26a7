"""Stages of a call: named spans of what it does, timed while a recorder is active, and free while none is.

The stages, each of which also names an NVTX range on a GPU:

    route          choose experts: logits, scores, ids and gates; only where a layer routes
    dispatch       order the routes and copy tokens to their experts' rows, packing for other ranks included
    up             the first product of the experts
    activation     what lies between the two products
    down           the second product
    combine        weigh the experts' rows and add them up for each token, unpacking from other ranks included
    communication  collectives, while the computation stands still for them
    waiting        until the slowest rank has come to a collective
    backward       the backward pass of a training step

A launch that does several of these is the product it is fused with: an activation in the epilogue of the first product
is `up`, a gather inside of it too, a scatter by the second one is `down`, and so is the rounding of what a product
reads. A stage inside another one takes its time from that one, so that no time counts twice. The backward pass is one
stage, because autograd runs parts of it that belong to no code of ours; only communication and waiting are told apart
in it. Jobs that run beside the computation, on other threads or streams, have no stages of their own.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from itertools import pairwise
from types import TracebackType
from typing import Any, Final, Literal

import torch

StageName = Literal["route", "dispatch", "up", "activation", "down", "combine", "communication", "waiting", "backward"]

Mark = Any
"""A point in time: nanoseconds on a CPU, an event on a GPU."""

IN_BACKWARD: Final = ("communication", "waiting")

# The one context manager that TorchDynamo enters although it was made outside of what is compiled.
_NOTHING: Final = nullcontext()
_recorder: StageRecorder | None = None  # global: a backward on a GPU runs in another thread


def stage(name: StageName) -> AbstractContextManager[None]:
    """Return a context manager that times its block as a stage, or does nothing where nobody records."""
    if _recorder is None or torch.compiler.is_compiling():
        return _NOTHING
    return _recorder.inside(name)


@contextmanager
def record_stages(device: torch.device) -> Iterator[StageRecorder]:
    """Record the stages of one call, which is the block, on a device.

    Raises:
        RuntimeError: when stages are recorded already.
    """
    global _recorder  # noqa: PLW0603  # see there
    if _recorder is not None:
        raise RuntimeError("stages are recorded already: end one recording before the next")
    recorder = StageRecorder(device)
    _recorder = recorder
    recorder.begin()
    try:
        yield recorder
    finally:
        recorder.end()
        _recorder = None


class StageRecorder:
    """The stages of one call: a mark whenever one begins or ends, on the current stream of a GPU or the host's clock.

    What passes between two marks belongs to the innermost stage that was open.
    """

    def __init__(self, device: torch.device) -> None:
        on_gpu = device.type == "cuda"
        self._mark = marker(device)
        self._named: dict[StageName, _Inside] = {}
        self._kind = _InsideNvtx if on_gpu else _Inside
        self._open: list[StageName | None] = [None]
        self._marks: list[Mark] = []
        self._during: list[StageName | None] = []

    def begin(self) -> None:
        """Begin the call."""
        self._note()

    def end(self) -> None:
        """End the call."""
        self._marks.append(self._mark())

    def inside(self, name: StageName) -> AbstractContextManager[None]:
        """Return what opens a stage and closes it, or nothing where it is a part of the backward pass."""
        if "backward" in self._open and name not in IN_BACKWARD:
            return _NOTHING
        if name not in self._named:
            self._named[name] = self._kind(self, name)
        return self._named[name]

    def opened(self, name: StageName) -> None:
        """Note that a stage begins."""
        self._open.append(name)
        self._note()

    def closed(self) -> None:
        """Note that the innermost stage ends."""
        self._open.pop()
        self._note()

    def times_ns(self) -> tuple[dict[StageName, float], float]:
        """Return the nanoseconds of every stage that was open, and of the whole call; waits for the device."""
        stages: dict[StageName, float] = {}
        whole = 0.0
        for name, between in zip(self._during, pairwise(self._marks), strict=True):
            ns = length_ns(*between)
            whole += ns
            if name is not None:
                stages[name] = stages.get(name, 0.0) + ns
        return stages, whole

    def _note(self) -> None:
        self._during.append(self._open[-1])
        self._marks.append(self._mark())


class _Inside(AbstractContextManager[None]):
    """One stage of a recorder; it may be entered again and again, also inside itself."""

    def __init__(self, recorder: StageRecorder, name: StageName) -> None:
        self._recorder = recorder
        self._name = name

    def __enter__(self) -> None:
        self._recorder.opened(self._name)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._recorder.closed()


class _InsideNvtx(_Inside):
    """The same with an NVTX range around it, which profilers of NVIDIA show."""

    def __enter__(self) -> None:
        torch.cuda.nvtx.range_push(self._name)
        super().__enter__()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        super().__exit__(kind, error, traceback)
        torch.cuda.nvtx.range_pop()


def marker(device: torch.device) -> Callable[[], Mark]:
    """Return the function that marks the present on a device: on a GPU when the work queued so far is done."""
    return _recorded_event if device.type == "cuda" else time.perf_counter_ns


def length_ns(start: Mark, stop: Mark) -> float:
    """Return the nanoseconds between two marks; waits for the device to come to them."""
    if isinstance(start, torch.cuda.Event):
        stop.synchronize()
        return 1e6 * float(start.elapsed_time(stop))
    return float(stop - start)


def _recorded_event() -> torch.cuda.Event:
    event = torch.cuda.Event(enable_timing=True)
    event.record()
    return event
