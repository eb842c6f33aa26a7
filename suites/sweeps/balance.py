"""Balance: what every router makes of a load, and what each dispatch takes for the routes that come of it."""

from __future__ import annotations

from ...kernels.problem.trace import label
from ..competitors import CompetitorRule
from ..layer import Layer
from ..suite import Suite, SuiteForm, SuitePoint, Sweep
from ._every_router import SPECS, routed, sizes, takes

MODEL = "OLMoE-1B-7B"
# Padded to the fullest expert, sorted and grouped, and in tiles: by what unevenness costs them.
FEW = CompetitorRule(groups=(), also=("padded", "grouped", "scatter"))
OURS = CompetitorRule(groups=("dropless",))
Choice = tuple[str, str]
"""A load and a router."""


def _point(layer: Layer, choice: Choice) -> SuitePoint:
    load, spec = choice
    problem = routed(layer, spec, load=load)
    series = f"{label(problem.load)}, {layer.title}, {sizes(problem)}"
    return SuitePoint(series=series, x=problem.router, problem=problem)


def _sweep(layer: Layer, loads: tuple[str, ...]) -> Sweep:
    values = tuple((load, spec) for load in loads for spec in SPECS if takes(layer, spec, load=load))
    return Sweep(layer=layer, point=_point, values=values)


suite = Suite(
    question="How even does each router make a load, and what does each dispatch take for it?",
    axis="router",
    small=SuiteForm(
        baseline="grouped",
        competitors=FEW,
        sweeps=(_sweep(Layer.of(MODEL, T=512, width=256), ("zipf:1", "text")),),
    ),
    full=SuiteForm(
        baseline="triton_scatter",
        competitors=OURS,
        sweeps=(
            _sweep(
                Layer.of(MODEL, T=8192, dtype="bfloat16"), ("uniform", "zipf:0.5", "zipf:1", "modalities:0.9", "text")
            ),
        ),
    ),
)
