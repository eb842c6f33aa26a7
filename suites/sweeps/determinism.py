"""Determinism: the bits of a token's result, from run to run and in every batch, by every kernel and router."""

from __future__ import annotations

from ...kernels.problem.trace import label
from ..competitors import CompetitorRule
from ..layer import Layer
from ..suite import Suite, SuiteForm, SuitePoint, Sweep, capacity_words
from ._every_router import SPECS, routed, takes
from ._rules import DROPLESS, DROPPING

FEW, MANY = "Mixtral-8x7B", "OLMoE-1B-7B"
DROPLESS_USES: tuple[dict[str, object], ...] = (
    {"capacity_factor": None, "mode": "forward"},
    {"capacity_factor": None, "mode": "train"},
)
# Of a skewed load a capacity factor of 1 drops much: the first rows stay, or those with the largest gate weight.
DROPPING_USES: tuple[dict[str, object], ...] = tuple(
    {"capacity_factor": 1.0, "load": "zipf:1", "drop": drop} for drop in ("first_come", "gate_weight")
)
KEPT = {"first_come": "first come", "first_choices": "first choices", "gate_weight": "batch priority"}


def _point(layer: Layer, use: dict[str, object]) -> SuitePoint:
    problem = layer.changed(**use)
    drops = problem.capacity_factor is not None
    words = [capacity_words(problem)]
    if drops:
        words.append(KEPT[problem.drop])
    else:
        problem = problem.replace(drop="first_come")  # it has no effect: equal points are one
    if problem.load != "uniform":
        words.append(label(problem.load))
    return SuitePoint(
        series=f"{layer.title}, T={problem.T}",
        x=", ".join(words),
        model=layer.model,
        problem=problem,
        competitors=DROPPING if drops else None,
    )


def _router_point(layer: Layer, spec: str) -> SuitePoint:
    """Return a point of the router alone, whose results are the choices and gate weights of each token."""
    problem = routed(layer, spec)
    return SuitePoint(
        series=f"router of {layer.title}, T={problem.T}",
        x=problem.router,
        model=layer.model,
        problem=problem,
        competitors=CompetitorRule(groups=("routers",)),
    )


def _form(layer: Layer, routers: Layer, baseline: str) -> SuiteForm:
    specs = tuple(spec for spec in SPECS if takes(routers, spec))
    return SuiteForm(
        baseline=baseline,
        competitors=DROPLESS,
        sweeps=(
            Sweep(layer=layer, point=_point, values=(*DROPLESS_USES, *DROPPING_USES)),
            Sweep(layer=routers, point=_router_point, values=specs),
        ),
        asks=("invariance",),
        seconds=0.2,
    )


suite = Suite(
    question="Does a token's result depend on the run, the size of its batch, the other tokens, or their order?",
    axis="case",
    small=_form(Layer.of(FEW, T=64, width=256), Layer.of(MANY, T=64, width=256), "padded"),
    full=_form(Layer.of(MANY, T=4096, dtype="bfloat16"), Layer.of(MANY, T=4096, dtype="bfloat16"), "triton_scatter"),
)
