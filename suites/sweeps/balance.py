"""Balance: what every router makes of a load, and what each dispatch takes for the routes that come of it."""

from __future__ import annotations

from ...kernels.problem.router import Router
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


def _sweep(layer: Layer, loads: tuple[str, ...], specs: tuple[str, ...] = SPECS) -> Sweep:
    values = tuple((load, spec) for load in loads for spec in specs if takes(layer, spec, load=load))
    return Sweep(layer=layer, point=_point, values=values)


def _choosing_apart(layer: Layer) -> tuple[str, ...]:
    """Return the routers but for those that choose the same experts of a load as another: the K of largest logits."""
    found: list[str] = []
    counts: set[int] = set()
    for spec in (layer.problem.router, *(spec for spec in SPECS if takes(layer, spec))):
        problem = routed(layer, spec)
        if not Router.parse(spec).follows_load or problem.K not in counts:
            found.append(spec)
        if Router.parse(spec).follows_load:
            counts.add(problem.K)
    return tuple(dict.fromkeys(found))


SMALL = Layer.of(MODEL, T=256, width=256)


suite = Suite(
    question="How even does each router make a load, and what does each dispatch take for it?",
    axis="router",
    small=SuiteForm(
        baseline="grouped",
        competitors=FEW,
        sweeps=(_sweep(SMALL, ("zipf:1", "text"), _choosing_apart(SMALL)),),
        seconds=0.1,
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
