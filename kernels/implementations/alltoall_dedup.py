"""Expert parallelism by all-to-all, a row for every rank that a token has a route to (DeepEP, DeepSeek-AI 2024).

However many of a token's experts share a rank, it goes there once with all its routes, and their weighted sum comes
back in one row. What a capacity drops does not travel.
"""

from __future__ import annotations

from ..expert_parallel.dispatcher import DispatcherForm, ExpertParallel
from ..expert_parallel.planned_traffic import TrafficModel, direct, direct_back, rows_by_rank
from ..expert_parallel.send_plan import by_rank
from ..expert_parallel.transport import DirectTransport
from ..problem import Problem


class AllToAllDedup(ExpertParallel):
    """Every rank sends to every rank directly, each token once."""

    def form(self, problem: Problem) -> DispatcherForm:
        model = TrafficModel(rows=rows_by_rank, out=direct, back=direct_back, counts_first=True, width=problem.K)
        return DispatcherForm(planner=by_rank, transport=DirectTransport, traffic_model=model)


kernel = AllToAllDedup()
