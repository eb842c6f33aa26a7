"""Expert parallelism by all-gather and reduce-scatter: every rank sees every token.

It wins where there are few tokens, or where each token goes to most ranks anyway. Every rank multiplies the rows of its
own experts; their sums return to the rank of the token and are added up in float32.
"""

from __future__ import annotations

from ..expert_parallel.dispatcher import DispatcherForm, ExpertParallel
from ..expert_parallel.planned_traffic import TrafficModel, direct_back, ring, rows_for_all
from ..expert_parallel.send_plan import for_all
from ..expert_parallel.transport import AllGatherTransport
from ..problem import Problem


class AllGather(ExpertParallel):
    """A dispatcher whose traffic depends on the number of tokens alone, not on their routes."""

    def form(self, problem: Problem) -> DispatcherForm:
        model = TrafficModel(rows=rows_for_all, out=ring, back=direct_back, counts_first=True, all_routes=True)
        return DispatcherForm(planner=for_all, transport=AllGatherTransport, traffic_model=model)


kernel = AllGather()
