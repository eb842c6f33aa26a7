"""Expert parallelism by all-to-all, a row for every route (GShard, Lepikhin et al. 2020; Tutel, Hwang et al. 2022).

A dropless problem sends the rows there are, after the ranks have told each other how many. With a capacity every rank
sends C rows for every expert, in equal splits known beforehand.
"""

from __future__ import annotations

from ..expert_parallel.dispatcher import DispatcherForm, ExpertParallel
from ..expert_parallel.planned_traffic import Way, of_routes, of_slots, straight, straight_home
from ..expert_parallel.send_plan import by_route, by_slot
from ..expert_parallel.transport import Direct, Known
from ..problem import Problem

DROPLESS = DispatcherForm(
    planner=by_route,
    carrier=Direct,
    way=Way(rows=of_routes, out=straight, home=straight_home, told=True, width=1),
)
PADDED = DispatcherForm(
    planner=by_slot,
    carrier=Known,
    way=Way(rows=of_slots, out=straight, home=straight_home, told=False, width=1),
)


class AllToAll(ExpertParallel):
    """Every rank sends to every rank directly."""

    def form(self, problem: Problem) -> DispatcherForm:
        return DROPLESS if problem.capacity is None else PADDED


kernel = AllToAll()
