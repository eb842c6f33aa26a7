"""Expert parallelism by all-to-all, a row for every route (GShard, Lepikhin et al. 2020; Tutel, Hwang et al. 2022).

In a dropless problem ranks first exchange the numbers of rows, and then send them. With a capacity every rank sends C
rows for every expert, in equal splits known beforehand.
"""

from __future__ import annotations

from ..expert_parallel.dispatcher import DispatcherForm, ExpertParallel
from ..expert_parallel.planned_traffic import TrafficModel, direct, direct_back, rows_by_route, rows_by_slot
from ..expert_parallel.send_plan import by_route, by_slot
from ..expert_parallel.transport import DirectTransport, EqualSplitsTransport
from ..problem import Problem

DROPLESS = DispatcherForm(
    planner=by_route,
    transport=DirectTransport,
    traffic_model=TrafficModel(rows=rows_by_route, out=direct, back=direct_back, counts_first=True),
)
PADDED = DispatcherForm(
    planner=by_slot,
    transport=EqualSplitsTransport,
    traffic_model=TrafficModel(rows=rows_by_slot, out=direct, back=direct_back, counts_first=False),
)


class AllToAll(ExpertParallel):
    """A dispatcher by which every rank sends to every rank directly."""

    def form(self, problem: Problem) -> DispatcherForm:
        return DROPLESS if problem.capacity is None else PADDED


kernel = AllToAll()
