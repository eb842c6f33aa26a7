"""Capacity factor: what dropping saves, what padding costs, and where dropless stands."""

from __future__ import annotations

from ...kernels.models import model
from ...kernels.problem import Problem
from ..suite import Place, Suite
from ._shapes import DROPLESS, DROPPING

FACTORS = (1.0, 1.25, 1.5, 2.0, 4.0)


def _places(problem: Problem, series: str, factors: tuple[float, ...]) -> tuple[Place, ...]:
    dropping = tuple(
        Place(series=series, x=factor, problem=problem.replace(capacity_factor=factor), kernels=DROPPING)
        for factor in factors
    )
    return (*dropping, Place(series=series, x="dropless", problem=problem, kernels=DROPLESS))


suite = Suite(
    question="What does the capacity factor cost in time and in dropped tokens, and is dropless cheaper?",
    axis="capacity factor",
    baseline="padded",
    small=_places(model("Mixtral-8x7B").problem(T=512).scaled(256), "Mixtral-8x7B, D=256, T=512", FACTORS),
    full=tuple(
        place
        for name in ("Mixtral-8x7B", "OLMoE-1B-7B", "Qwen3-30B-A3B")
        for mode in ("forward", "train")
        for place in _places(model(name).problem(T=8192, dtype="bfloat16", mode=mode), f"{name}, T=8192", FACTORS)
    ),
)
