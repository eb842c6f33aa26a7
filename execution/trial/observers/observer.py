"""Interfaces of observers, one for each moment of a trial at which something is observed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

import torch
from pydantic import BaseModel

from ....kernels.config import Config
from ....kernels.expert_parallel.comm_stream import CommStream
from ....kernels.expert_parallel.communicates import Communicates
from ....kernels.kernel import Kernel, Layer
from ....kernels.oracle import Result
from ....kernels.problem import Problem
from ....kernels.problem.tensors import Inputs
from ....results.timing.disturbance import Watch
from ..across_ranks import ranks
from ..reference_check import call

Take = Callable[[], Result]


@dataclass(frozen=True, kw_only=True)
class ObservedCall:
    """A call of a built layer outside the timed region, on this rank's inputs. Calling it runs the layer once."""

    kernel: Kernel
    config: Config
    problem: Problem
    layer: Layer
    inputs: Inputs
    device: torch.device

    def __call__(self) -> Result:
        return call(self.problem, self.layer, self.inputs)


class Observer(Protocol):
    """One metric of a trial: it fills one field of the record.

    All ranks of a process group run the same observers in the same order, so that an observer may gather.
    """

    field: str


class FirstCallObserver(Observer, Protocol):
    """Watches the first call of a layer, the one that is graded."""

    def observe(self, observed: ObservedCall, take: Take) -> tuple[Result, BaseModel]:
        """Run ``take``, which makes the call, once; return its result and what was observed."""


class LayerObserver(Observer, Protocol):
    """Reads what a layer holds after a first call that was right."""

    def observe(self, layer: Layer) -> BaseModel | None:
        """Return what the layer shows, or None when it shows nothing."""


class AskedObserver(Observer, Protocol):
    """Observer that makes further calls after a first call that was right, where a task asks for its field."""

    def observe(self, observed: ObservedCall) -> BaseModel | None:
        """Return what further calls show, or None when there is nothing to observe."""


class FurtherCallObserver(Observer, Protocol):
    """Observer that makes further calls after all samples are taken."""

    def applies(self, layer: Layer) -> bool:
        """Return whether calls of this layer have anything to observe."""

    def observe(self, observed: ObservedCall, watch: Watch) -> BaseModel | None:
        """Return what further calls show, which ``watch`` watches; None when others disturbed them."""


def observe_first_call(
    observers: Sequence[FirstCallObserver], observed: ObservedCall
) -> tuple[Result, dict[str, BaseModel]]:
    """Make the first call once, inside all observers, the first of them outermost.

    Returns its result, and what was observed by field of the record.
    """
    if not observers:
        return observed(), {}
    outermost, *inner = observers
    found: dict[str, BaseModel] = {}

    def take() -> Result:
        result, within = observe_first_call(inner, observed)
        found.update(within)
        return result

    result, found[outermost.field] = outermost.observe(observed, take)
    return result, found


def sharing(layer: object) -> Communicates | None:
    """Return a layer that shares its experts with other ranks, or None when nothing is sent between ranks."""
    return layer if isinstance(layer, Communicates) and ranks() > 1 else None


@contextmanager
def on_stream(layer: Communicates, stream: CommStream) -> Iterator[None]:
    """Let the collectives of a layer run on another stream inside the block."""
    before = layer.comm_stream
    layer.comm_stream = stream
    try:
        yield
    finally:
        layer.comm_stream = before
