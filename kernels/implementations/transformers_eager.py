"""The experts of Hugging Face transformers with `experts_implementation="eager"`, its loop over experts."""

from __future__ import annotations

from ..config import Config
from ..kernel import Cost
from ..problem import ELEMENT_BYTES, Problem
from ..problem.routing import Routing
from ._transformers import TransformersExperts, row_width


class TransformersEager(TransformersExperts):
    """`TransformersExperts` with ``experts_implementation="eager"``."""

    implementation = "eager"

    def refuses(self, problem: Problem) -> str | None:
        if problem.mode == "train" and problem.T == 0:
            return f"has no gradients without tokens, the problem has T = {problem.T}"
        return super().refuses(problem)

    def cost(self, problem: Problem, config: Config, routing: Routing) -> Cost:
        rows = problem.N if problem.mode == "train" else int(routing.counts_E().max())
        elements = rows * row_width(problem)
        if problem.mode == "train":
            # Autograd adds up one gradient of all up projections for each expert, so two more exist for a moment.
            elements += 2 * problem.E * problem.U * problem.D
        one_hot = problem.N * problem.E * 8
        return Cost(executed_rows=problem.N, workspace_bytes=elements * ELEMENT_BYTES[problem.dtype] + one_hot)


kernel = TransformersEager()
