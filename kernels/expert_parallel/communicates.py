"""The interface of a layer that runs on several ranks: its communication stream and its traffic counter."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from ..traffic_counter import TrafficCounter
from .comm_stream import CommStream


@runtime_checkable
class Communicates(Protocol):
    """The layer of one rank.

    ``traffic`` counts what this rank has sent since the layer was built, ``comm_stream`` is where its collectives run.
    """

    comm_stream: CommStream

    @property
    def traffic(self) -> TrafficCounter: ...
