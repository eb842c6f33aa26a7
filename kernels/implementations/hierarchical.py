"""Expert parallelism by all-to-all in two hops, inside the node and then across (Tutel's 2DH, Hwang et al. 2022).

It sends the rows of `alltoall`. They go to another node in one message, where `alltoall` sends one to each of its
ranks: fewer and larger messages on the slow links, for one more hop on the fast ones.
"""

from __future__ import annotations

import torch

from ..expert_parallel.dispatcher import DispatcherForm, ExpertParallel
from ..expert_parallel.planned_traffic import TrafficModel, rows_by_route, rows_by_slot, two_hops, two_hops_back
from ..expert_parallel.send_plan import by_route, by_slot
from ..expert_parallel.transport import EqualTwoHopTransport, TwoHopTransport
from ..nodes import NodeTopology
from ..problem import Problem

DROPLESS = DispatcherForm(
    planner=by_route,
    transport=TwoHopTransport,
    traffic_model=TrafficModel(rows=rows_by_route, out=two_hops, back=two_hops_back, counts_first=True),
)
PADDED = DispatcherForm(
    planner=by_slot,
    transport=EqualTwoHopTransport,
    traffic_model=TrafficModel(rows=rows_by_slot, out=two_hops, back=two_hops_back, counts_first=False),
)


class Hierarchical(ExpertParallel):
    """A dispatcher for nodes of equally many ranks."""

    def supports(self, problem: Problem, device: torch.device) -> str | None:
        topology = NodeTopology.here(problem.ranks)
        if not topology.even:
            return (
                f"needs as many ranks on every node, {problem.ranks} ranks fill nodes of {topology.per_node} unevenly"
            )
        return super().supports(problem, device)

    def form(self, problem: Problem) -> DispatcherForm:
        return DROPLESS if problem.capacity is None else PADDED


kernel = Hierarchical()
