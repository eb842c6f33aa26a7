"""The experts of Hugging Face transformers with `experts_implementation="batched_mm"`, its product for decoding.

Each route gets a copy of its expert's weights, so that one batched product serves all of them without sorting and
without waiting for the host. `generate` takes it for the steps of decoding in place of the grouped product.
"""

from __future__ import annotations

from ..config import Config
from ..kernel import Cost
from ..problem import ELEMENT_BYTES, Problem
from ..problem.routing import Routing
from ._transformers import TransformersExperts, row_width


class TransformersBatchedMm(TransformersExperts):
    """`TransformersExperts` with ``experts_implementation="batched_mm"``."""

    implementation = "batched_mm"

    def refuses(self, problem: Problem) -> str | None:
        # Autograd adds the gradients of an expert's copies one by one in the dtype of the weights: in bfloat16 those of
        # 120 rows were off by 1.3 %.
        if problem.mode == "train" and problem.dtype != "float32":
            return f"sums up the gradients of copied weights in dtype = {problem.dtype}, too coarse for mode = train"
        return super().refuses(problem)

    def cost(self, problem: Problem, config: Config, routing: Routing) -> Cost:
        """Count the weights that are copied for every route; in training their gradients exist beside them."""
        copies = 2 if problem.mode == "train" else 1
        width = copies * problem.D * (problem.U + problem.F) + row_width(problem)
        return Cost(executed_rows=problem.N, workspace_bytes=problem.N * width * ELEMENT_BYTES[problem.dtype])


kernel = TransformersBatchedMm()
