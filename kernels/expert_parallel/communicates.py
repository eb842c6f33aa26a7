"""The interface of a layer that runs on several ranks, for whoever times it or checks what it sends."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from ..traffic_counter import TrafficCounter
from .comm_stream import CommStream


@runtime_checkable
class Communicates(Protocol):
    """One rank's layer.

    ``ledger`` counts what this rank has sent since the layer was built, ``lane`` is where its collectives run.
    """

    lane: CommStream

    @property
    def ledger(self) -> TrafficCounter: ...
