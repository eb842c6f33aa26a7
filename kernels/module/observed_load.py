"""Observation of a layer's load: the rows of each expert in some of its calls, and the load that they resemble."""

from __future__ import annotations

import logging
import math
import threading
from typing import Final, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..problem.balance.sorted_shares import nearest_load, sorted_shares
from ..problem.routing import Routing

LOADS: Final = ("uniform", "zipf:0.25", "zipf:0.5", "zipf:0.75", "zipf:1", "zipf:1.5", "zipf:2", "hot")
"""The loads that are told apart, from even to uneven. A few, so that layers share what is built for them."""

EVERY: Final = 8
"""One call in so many is counted, so that its cost is spread over the others."""

ROWS_OF_EXPERT: Final = 16
"""Rows of an expert in the mean, and `LEAST_ROWS` of all, from which a load is told: drawn by any of `LOADS`, fewer are
mistaken for its neighbour in every tenth window."""
LEAST_ROWS: Final = 512

AGAIN: Final = 2
"""Windows in a row that must resemble the same other load before it replaces the first: a kernel is built for it."""

_log = logging.getLogger(__name__)


class _Copy(NamedTuple):
    """Rows of each expert, (E,), on their way to the host, which has them when the event has happened."""

    counts_E: Tensor
    event: torch.cuda.Event


class ObservedLoad:
    """The load of a layer of so many experts, by what its calls showed.

    Windows of calls are counted, each until it has enough rows. ``load`` is the one of `LOADS` that a window is nearest
    to (`nearest_load`), None before the first is full. Where the routes are on a GPU the counts are copied behind the
    call, and a later call reads them if they have arrived: no call waits. Calls under capture of a CUDA graph are
    neither counted nor do they change the load, nor do those of a backward, which repeat a forward.

    Threads may share it: while one counts, the others go by the load as it is. A copy, deep, pickled or not, has
    observed nothing.
    """

    def __init__(self, experts: int) -> None:
        self.load: str | None = None
        self._experts = experts
        self._calls = 0
        self._copy: _Copy | None = None
        self._chosen = 0
        self._window_E = np.zeros(experts, dtype=np.int64)
        self._other: str | None = None
        self._times = 0
        self._lock = threading.Lock()

    def __reduce__(self) -> tuple[type[ObservedLoad], tuple[int]]:
        return type(self), (self._experts,)

    def of_call(self, routing: Routing) -> str | None:
        """Return the load to choose a kernel by for a call with these routes, and count them if it is their turn."""
        device = routing.ids_TK.device.type
        if device not in ("cpu", "cuda") or _in_backward() or (device == "cuda" and _capturing()):
            return self.load
        if self._lock.acquire(blocking=False):
            try:
                self._observe(routing)
            finally:
                self._lock.release()
        return self.load

    def _observe(self, routing: Routing) -> None:
        if self._copy is not None and self._copy.event.query():
            self._add(self._copy.counts_E)
            self._copy = None
        turn = self._calls % EVERY == 0
        self._calls += 1
        if not turn or self._copy is not None or not routing.ids_TK.numel():
            return
        if routing.chosen != self._chosen:  # shares of another K are others
            self._chosen, self._window_E = routing.chosen, np.zeros_like(self._window_E)
        if routing.ids_TK.device.type == "cpu":
            self._add(routing.counts_E())
        else:
            self._copy = _Copy(routing.counts_E().to("cpu", non_blocking=True), torch.cuda.Event())
            self._copy.event.record(torch.cuda.current_stream(routing.ids_TK.device))

    def _add(self, counts_E: Tensor) -> None:
        self._window_E += counts_E.numpy()
        rows = int(self._window_E.sum())
        if rows >= max(LEAST_ROWS, ROWS_OF_EXPERT * self._experts):
            tokens = 2 ** round(math.log2(rows / self._chosen))  # rounded, so that few are ever reckoned
            self._resembles(nearest_load(sorted_shares(self._window_E), LOADS, K=self._chosen, tokens=tokens))
            self._window_E = np.zeros_like(self._window_E)

    def _resembles(self, load: str) -> None:
        """Take a load after enough windows in a row, the first one at once."""
        self._times = self._times + 1 if load == self._other else 1
        self._other = load
        if load != self.load and (self.load is None or self._times >= AGAIN):
            _log.info("load of %d experts: %s, before %s", self._experts, load, self.load or "unknown")
            self.load = load


def _capturing() -> bool:
    """Return whether a CUDA graph is being captured, in which an event must not be asked for its state."""
    return torch.cuda.is_current_stream_capturing()


def _in_backward() -> bool:
    """Return whether a backward runs, in which a checkpoint calls a layer again: the same kernel must run."""
    return torch._C._current_graph_task_id() != -1  # noqa: SLF001  # torch.utils.checkpoint asks the same
