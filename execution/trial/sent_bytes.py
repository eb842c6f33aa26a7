"""What all ranks sent in one call, as a record has it."""

from __future__ import annotations

from collections.abc import Sequence

from ...kernels.traffic_counter import TrafficCounter
from ...results.record import Traffic
from .across_ranks import gather_floats


def traffic(ledgers: Sequence[TrafficCounter]) -> Traffic:
    """Of the ledgers of all ranks, in order."""
    return _traffic(ledgers[0].topology.per_node, [_figures(ledger) for ledger in ledgers])


def traffic_of_all(mine: TrafficCounter) -> Traffic:
    """Of this rank's ledger and the others'. All ranks must ask together."""
    return _traffic(mine.topology.per_node, gather_floats(_figures(mine)))


def _figures(ledger: TrafficCounter) -> list[float]:
    sent = ledger.bytes
    return [sent["self"], sent["node"], sent["across"], ledger.messages, ledger.rows, ledger.routes]


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
