"""Capacity factor: what dropping saves, what padding costs, and how dropless compares."""

from __future__ import annotations

from functools import partial
from typing import get_args

from ...kernels.problem import Mode
from ..competitors import CompetitorRule
from ..layer import Layer
from ..suite import Suite, SuiteForm, SuitePoint, Sweep
from ._rules import DROPLESS, DROPPING, GPU_BASELINE, WAITS

FACTORS = (1.0, 1.25, 1.5, 2.0, 4.0, None)
REDUCED_DROPPING = DROPPING.leaving_out({"gshard_einsum": "a session is short; the full form has it"})
# With `padded`, which is what a capacity is compared with.
REDUCED_DROPLESS = DROPLESS.leaving_out({name: reason for name, reason in WAITS.items() if name != "padded"})


def _point(
    layer: Layer, factor: float | None, dropping: CompetitorRule = DROPPING, dropless: CompetitorRule = DROPLESS
) -> SuitePoint:
    problem = layer.changed(capacity_factor=factor)
    return SuitePoint(
        series=f"{layer.title}, T={problem.T}",
        x=problem.capacity_factor or "dropless",
        model=layer.model,
        problem=problem,
        competitors=dropping if problem.capacity_factor else dropless,
    )


def _large(name: str, mode: Mode = "forward") -> Layer:
    return Layer.of(name, T=8192, dtype="bfloat16", mode=mode)


suite = Suite(
    question="What does the capacity factor cost in time and in dropped tokens, and is dropless cheaper?",
    axis="capacity factor",
    small=SuiteForm(
        baseline="padded",
        competitors=DROPPING,
        sweeps=(Sweep(layer=Layer.of("Mixtral-8x7B", T=512, width=256), point=_point, values=FACTORS),),
    ),
    full=SuiteForm(
        baseline=GPU_BASELINE,
        competitors=DROPPING,
        sweeps=tuple(
            Sweep(layer=_large(name, mode), point=_point, values=FACTORS)
            for name in ("Mixtral-8x7B", "OLMoE-1B-7B", "Qwen3-30B-A3B")
            for mode in get_args(Mode)
        ),
    ),
    reduced=SuiteForm(
        baseline=GPU_BASELINE,
        competitors=DROPPING,
        sweeps=(
            Sweep(
                layer=_large("Mixtral-8x7B"),
                point=partial(_point, dropping=REDUCED_DROPPING, dropless=REDUCED_DROPLESS),
                values=(1.25, None),
            ),
        ),
    ),
)
