"""Rows, FLOPs and bytes of a call, useful and executed, computed from its routes and its cost."""

from __future__ import annotations

from ...kernels.kernel import Cost
from ...kernels.problem import Problem
from ...kernels.problem.routing import NO_ROUTE, Routing
from ...kernels.question import LAYER, Question
from ...results.record import Work


def work_of(problem: Problem, routed: Routing, kept: Routing, cost: Cost, question: Question = LAYER) -> Work:
    """Return the work of a call on the ``routed`` rows of all ranks, of which the capacity leaves those ``kept``."""
    forwards = 3 if problem.mode == "train" else 1
    return Work(
        useful_flops=question.useful_flops(problem, kept),
        executed_flops=problem.flops(cost.executed_rows) + forwards * cost.extra_flops,
        ideal_bytes=question.ideal_bytes(problem, kept),
        routed_rows=_rows(routed),
        kept_rows=_rows(kept),
        capacity=problem.capacity,
    )


def _rows(routing: Routing) -> int:
    return int((routing.ids_TK != NO_ROUTE).sum())
