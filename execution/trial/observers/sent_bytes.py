"""Observer of the bytes that all ranks send in one call, and the same bytes as a cost plans them."""

from __future__ import annotations

from collections.abc import Sequence

from ....kernels.kernel import Layer
from ....kernels.traffic_counter import TrafficCounter
from ....results.record import Traffic
from ..across_ranks import gather_floats
from .observer import sharing


class TrafficObserver:
    """Reads what a layer on several ranks has counted. All ranks must observe together."""

    field = "traffic"

    def observe(self, layer: Layer) -> Traffic | None:
        if (shared := sharing(layer)) is None:
            return None
        return _traffic(shared.traffic.topology.per_node, gather_floats(_figures(shared.traffic)))


def planned_traffic(counters: Sequence[TrafficCounter]) -> Traffic:
    """Return the traffic that the counters of all ranks, in order of rank, come to."""
    return _traffic(counters[0].topology.per_node, [_figures(counter) for counter in counters])


def _figures(counter: TrafficCounter) -> list[float]:
    sent = counter.bytes
    return [sent["self"], sent["node"], sent["across"], counter.messages, counter.rows, counter.routes]


def _traffic(per_node: int, figures: Sequence[Sequence[float]]) -> Traffic:
    kept, node, across, messages, rows, routes = ([int(one) for one in column] for column in zip(*figures, strict=True))
    return Traffic(
        ranks_per_node=per_node,
        self_bytes=kept,
        node_bytes=node,
        across_bytes=across,
        messages=messages,
        rows=rows,
        routes=routes,
    )
