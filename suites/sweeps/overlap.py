"""Overlap: tokens split into chunks, one of which is sent while another is computed."""

from __future__ import annotations

from ...kernels.problem import Problem
from ...kernels.problem.models import model
from ..suite import Suite, SuiteForm, SuitePoint
from ._rules import BETWEEN_RANKS

MODEL = "OLMoE-1B-7B"
CHUNKS = (1, 2, 4, 8)


def _form(problem: Problem, name: str) -> SuiteForm:
    places = tuple(
        SuitePoint(series=name, x=chunks, model=MODEL, problem=problem.replace(mode=mode), config={"chunks": chunks})
        for mode in ("forward", "train")
        for chunks in CHUNKS
    )
    return SuiteForm(baseline="alltoall", competitors=BETWEEN_RANKS, places=places)


suite = Suite(
    question="How much of the communication hides behind the experts, and in how many chunks?",
    axis="chunks",
    small=_form(model(MODEL).problem(T=4096, ranks=2).scaled(256), f"{MODEL}, D=256, T=4096, two ranks"),
    full=_form(model(MODEL).problem(T=32768, ranks=8, dtype="bfloat16"), f"{MODEL}, T=32768, eight ranks"),
)
