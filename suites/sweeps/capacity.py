"""Capacity factor: what dropping saves, what padding costs, and how dropless compares."""

from __future__ import annotations

from typing import get_args

from ...kernels.problem import Mode, Problem
from ...kernels.problem.models import model
from ..competitors import CompetitorRule
from ..suite import Suite, SuiteForm, SuitePoint
from ._rules import DROPLESS, DROPPING, GPU_BASELINE, WAITS

FACTORS = (1.0, 1.25, 1.5, 2.0, 4.0)
REDUCED_DROPPING = DROPPING.leaving_out({"gshard_einsum": "a session is short; the full form has it"})
# With `padded`, which is what a capacity is compared with.
REDUCED_DROPLESS = DROPLESS.leaving_out({name: reason for name, reason in WAITS.items() if name != "padded"})


def _places(
    problem: Problem,
    name: str,
    series: str,
    factors: tuple[float, ...],
    dropping: CompetitorRule = DROPPING,
    dropless: CompetitorRule = DROPLESS,
) -> tuple[SuitePoint, ...]:
    capped = tuple(
        SuitePoint(
            series=series, x=factor, model=name, problem=problem.replace(capacity_factor=factor), competitors=dropping
        )
        for factor in factors
    )
    return (*capped, SuitePoint(series=series, x="dropless", model=name, problem=problem, competitors=dropless))


def _large(name: str, mode: Mode = "forward") -> tuple[Problem, str, str]:
    return model(name).problem(T=8192, dtype="bfloat16", mode=mode), name, f"{name}, T=8192"


suite = Suite(
    question="What does the capacity factor cost in time and in dropped tokens, and is dropless cheaper?",
    axis="capacity factor",
    small=SuiteForm(
        baseline="padded",
        competitors=DROPPING,
        places=_places(
            model("Mixtral-8x7B").problem(T=512).scaled(256), "Mixtral-8x7B", "Mixtral-8x7B, D=256, T=512", FACTORS
        ),
    ),
    full=SuiteForm(
        baseline=GPU_BASELINE,
        competitors=DROPPING,
        places=tuple(
            place
            for name in ("Mixtral-8x7B", "OLMoE-1B-7B", "Qwen3-30B-A3B")
            for mode in get_args(Mode)
            for place in _places(*_large(name, mode), FACTORS)
        ),
    ),
    reduced=SuiteForm(
        baseline=GPU_BASELINE,
        competitors=DROPPING,
        places=_places(*_large("Mixtral-8x7B"), (1.25,), REDUCED_DROPPING, REDUCED_DROPLESS),
    ),
)
