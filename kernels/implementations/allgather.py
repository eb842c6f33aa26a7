"""Expert parallelism by all-gather and reduce-scatter: every rank sees every token.

The baseline that wins where there are few tokens, or where each goes to most ranks anyway. Every rank multiplies the
rows that are for its experts; their sums come home and are added up in float32.
"""

from __future__ import annotations

from ..expert_parallel.dispatcher import DispatcherForm, ExpertParallel
from ..expert_parallel.planned_traffic import Way, of_tokens, ring, straight_home
from ..expert_parallel.send_plan import everywhere
from ..expert_parallel.transport import Everyone
from ..problem import Problem


class AllGather(ExpertParallel):
    """Traffic depends on the number of tokens alone, not on their routes."""

    def form(self, problem: Problem) -> DispatcherForm:
        way = Way(rows=of_tokens, out=ring, home=straight_home, told=True, width=problem.K)
        return DispatcherForm(planner=everywhere, carrier=Everyone, way=way)


kernel = AllGather()
