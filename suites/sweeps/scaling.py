"""Weak scaling: a constant number of tokens on each rank, measured on few ranks and predicted for more."""

from __future__ import annotations

from typing import get_args

from ...kernels.problem import Mode, Problem
from ...kernels.problem.models import model
from ..suite import Suite, SuiteForm, SuitePoint
from ._rules import BETWEEN_RANKS

MODEL = "OLMoE-1B-7B"


def _form(problem: Problem, name: str, ranks: tuple[int, ...]) -> SuiteForm:
    places = tuple(
        SuitePoint(
            series=name, x=count, model=MODEL, problem=problem.replace(T=problem.T * count, ranks=count, mode=mode)
        )
        for count in ranks
        for mode in get_args(Mode)
    )
    return SuiteForm(baseline="alltoall", competitors=BETWEEN_RANKS, places=places)


suite = Suite(
    question="How does a layer scale with the ranks, each with as many tokens, and which dispatch scales best?",
    axis="ranks",
    small=_form(model(MODEL).problem(T=512).scaled(256), f"{MODEL}, D=256, 512 tokens a rank", (1, 2, 4)),
    full=_form(model(MODEL).problem(T=4096, dtype="bfloat16"), f"{MODEL}, 4096 tokens a rank", (1, 2, 4, 8, 16)),
    beyond=tuple(2**power for power in range(13)),
)
