"""Skew: the same shape under loads from balanced to one hot expert."""

from __future__ import annotations

from ...kernels.problem import Problem
from ...kernels.problem.models import model
from ..suite import Suite, SuiteForm, SuitePoint
from ._rules import DROPLESS

MODEL = "OLMoE-1B-7B"
LOADS = ("uniform", "zipf:0.5", "zipf:1", "zipf:1.5", "dirichlet:0.3", "hot", "empty:0.5")


def _places(problem: Problem, series: str) -> tuple[SuitePoint, ...]:
    return tuple(SuitePoint(series=series, x=load, model=MODEL, problem=problem.replace(load=load)) for load in LOADS)


suite = Suite(
    question="How much does an uneven load cost each dispatch?",
    axis="load",
    small=SuiteForm(
        baseline="loop",
        competitors=DROPLESS,
        places=_places(model(MODEL).problem(T=512).scaled(256), f"{MODEL}, D=256, T=512"),
    ),
    full=SuiteForm(
        baseline="transformers_grouped_mm",
        competitors=DROPLESS,
        places=tuple(
            place
            for mode in ("forward", "train")
            for place in _places(model(MODEL).problem(T=8192, dtype="bfloat16", mode=mode), f"{MODEL}, T=8192")
        ),
    ),
)
