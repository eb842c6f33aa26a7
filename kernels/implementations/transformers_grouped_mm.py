"""The experts of Hugging Face transformers with `experts_implementation="grouped_mm"`, its grouped product."""

from __future__ import annotations

from ..problem import Problem
from ._transformers import TransformersExperts
from .grouped import aligned


class TransformersGroupedMm(TransformersExperts):
    """`TransformersExperts` with ``experts_implementation="grouped_mm"``."""

    implementation = "grouped_mm"

    def refuses(self, problem: Problem) -> str | None:
        return aligned(problem) or super().refuses(problem)


kernel = TransformersGroupedMm()
