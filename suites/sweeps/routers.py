"""Routers: the cost of choosing the experts, as a share of the layer, for every method."""

from __future__ import annotations

from functools import partial

from ..competitors import CompetitorRule
from ..layer import Layer
from ..suite import Suite, SuiteForm, SuitePoint, Sweep
from ._every_router import SPECS, routed, sizes, takes
from ._rules import GPU_BASELINE

CPU_BASELINE = "scatter"


def _point(layer: Layer, spec: str, baseline: str) -> SuitePoint:
    problem = routed(layer, spec)
    rule = CompetitorRule(groups=("routers",), also=(baseline,))
    return SuitePoint(series=f"{layer.title}, {sizes(problem)}", x=problem.router, problem=problem, competitors=rule)


def _form(baseline: str, layers: tuple[Layer, ...]) -> SuiteForm:
    return SuiteForm(
        baseline=baseline,
        competitors=CompetitorRule(groups=("routers",), also=(baseline,)),
        sweeps=tuple(
            Sweep(
                layer=layer,
                point=partial(_point, baseline=baseline),
                values=tuple(spec for spec in SPECS if takes(layer, spec)),
            )
            for layer in layers
        ),
    )


suite = Suite(
    question="What share of a layer does it take to choose the experts, by every method?",
    axis="router",
    small=_form(
        CPU_BASELINE,
        (Layer.of("Mixtral-8x7B", T=4096, width=256), Layer.of("OLMoE-1B-7B", T=1024, width=256)),
    ),
    full=_form(
        GPU_BASELINE,
        tuple(
            Layer.of(name, T=T, dtype="bfloat16")
            for name in ("Mixtral-8x7B", "OLMoE-1B-7B", "DeepSeek-V3", "Qwen3-Next-80B-A3B")
            for T in (64, 4096, 32768)
        ),
    ),
)
