"""Expert parallelism by all-to-all, a row for every rank that a token has a route to (DeepEP, DeepSeek-AI 2024).

A token goes to a rank once, with all its routes to experts there, and their weighted sum returns in one row. Routes
that a capacity drops are not sent.
"""

from __future__ import annotations

from ..expert_parallel.dispatcher import DispatcherForm, ExpertParallel
from ..expert_parallel.planned_traffic import TrafficModel, direct, direct_back, rows_by_rank
from ..expert_parallel.send_plan import by_rank
from ..expert_parallel.transport import DirectTransport
from ..problem import Problem


class AllToAllDedup(ExpertParallel):
    """A dispatcher by which every rank sends to every rank directly, each token once."""

    def form(self, problem: Problem) -> DispatcherForm:
        model = TrafficModel(rows=rows_by_rank, out=direct, back=direct_back, counts_first=True, all_routes=True)
        return DispatcherForm(planner=by_rank, transport=DirectTransport, traffic_model=model)


kernel = AllToAllDedup()
