"""Expert parallelism: the dispatchers over 1, 2 and 4 ranks, dropless and padded to a capacity, under two loads."""

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
            series=f"{name}, {_capacity(factor)}, {load}",
            x=count,
            model=MODEL,
            problem=problem.replace(ranks=count, capacity_factor=factor, mode=mode, load=load),
        )
        for count in ranks  # outermost: other ranks are other processes
        for mode in get_args(Mode)
        for factor, load in ((None, "uniform"), (1.25, "uniform"), (None, "zipf:1"))
    )
    return SuiteForm(baseline="alltoall", competitors=BETWEEN_RANKS, places=places)


def _capacity(factor: float | None) -> str:
    return "dropless" if factor is None else f"capacity factor {factor:g}"


suite = Suite(
    question="Which dispatch between ranks is fastest, and what does sharding the experts cost in time and bytes sent?",
    axis="ranks",
    small=_form(model(MODEL).problem(T=1024).scaled(256), f"{MODEL}, D=256, T=1024", (1, 2, 4)),
    full=_form(model(MODEL).problem(T=8192, dtype="bfloat16"), f"{MODEL}, T=8192", (1, 2, 4, 8)),
)
