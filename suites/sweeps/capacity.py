"""Capacity factor: what dropping saves, what padding costs, and where dropless stands."""

from __future__ import annotations

from typing import get_args

from ...kernels.problem import Mode, Problem
from ...kernels.problem.models import model
from ..suite import Suite, SuiteForm, SuitePoint
from ._shapes import DROPLESS, DROPPING, EVERY_DROPLESS, EVERY_DROPPING, GPU_BASELINE, GPU_DROPLESS, GPU_DROPPING

FACTORS = (1.0, 1.25, 1.5, 2.0, 4.0)


def _places(
    problem: Problem,
    name: str,
    series: str,
    factors: tuple[float, ...],
    dropping: tuple[str, ...] = DROPPING,
    dropless: tuple[str, ...] = DROPLESS,
) -> tuple[SuitePoint, ...]:
    capped = tuple(
        SuitePoint(
            series=series, x=factor, model=name, problem=problem.replace(capacity_factor=factor), kernels=dropping
        )
        for factor in factors
    )
    return (*capped, SuitePoint(series=series, x="dropless", model=name, problem=problem, kernels=dropless))


def _large(name: str, mode: Mode = "forward") -> tuple[Problem, str, str]:
    return model(name).problem(T=8192, dtype="bfloat16", mode=mode), name, f"{name}, T=8192"


suite = Suite(
    question="What does the capacity factor cost in time and in dropped tokens, and is dropless cheaper?",
    axis="capacity factor",
    small=SuiteForm(
        baseline="padded",
        places=_places(
            model("Mixtral-8x7B").problem(T=512).scaled(256), "Mixtral-8x7B", "Mixtral-8x7B, D=256, T=512", FACTORS
        ),
    ),
    full=SuiteForm(
        baseline=GPU_BASELINE,
        places=tuple(
            place
            for name in ("Mixtral-8x7B", "OLMoE-1B-7B", "Qwen3-30B-A3B")
            for mode in get_args(Mode)
            for place in _places(*_large(name, mode), FACTORS, EVERY_DROPPING, EVERY_DROPLESS)
        ),
    ),
    reduced=SuiteForm(
        baseline=GPU_BASELINE,
        places=_places(*_large("Mixtral-8x7B"), (1.25,), ("padded", *GPU_DROPPING), ("padded", *GPU_DROPLESS)),
    ),
)
