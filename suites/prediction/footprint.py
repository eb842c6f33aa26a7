"""Memory footprint of a layer call on a rank."""

from __future__ import annotations

from dataclasses import dataclass

from ...kernels.expert_parallel.wire_format import Formats
from ...kernels.problem import ELEMENT_BYTES, ROUTE_BYTES
from .dispatcher_traffic import Flow
from .routing_distribution import RoutingDistribution

STAGES = 3  # a travelling row is held three times: packed, in the send buffer, and in the receive buffer


@dataclass(frozen=True, kw_only=True)
class Footprint:
    """Bytes of the fullest rank: weights (in training with gradients), tokens and results, and rows in flight."""

    weights: int
    tokens: int
    buffers: int

    @property
    def total(self) -> int:
        return self.weights + self.tokens + self.buffers


def footprint(distribution: RoutingDistribution, flow: Flow) -> Footprint:
    """Return the footprint: rows in flight in both directions, and what `implementations/grouped.py` allocates."""
    problem, groups = distribution.problem, distribution.layout.groups
    element, rows = ELEMENT_BYTES[problem.dtype], Formats.of(problem, flow.routes)
    training = problem.mode == "train"
    passes = 2 if training else 1
    travelling = max(amount.repeated(distribution.chunks).largest(groups) for amount in (flow.sent, flow.received))
    width = 2 * problem.D + problem.U + 2 * problem.F + (problem.D + problem.U + problem.F if training else 0)
    multiplied = flow.computed.repeated(distribution.chunks if training else 1).largest(groups)
    tokens = problem.tokens_per_rank
    return Footprint(
        weights=passes * distribution.slots * problem.weight_bytes // problem.E,
        tokens=2 * passes * tokens * problem.D * element + tokens * problem.K * ROUTE_BYTES,
        buffers=round(STAGES * travelling * (rows.token.bytes + rows.plain.bytes) + multiplied * width * element),
    )
