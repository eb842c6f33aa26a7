"""Skew: the same shape under loads from balanced to one hot expert."""

from __future__ import annotations

from ...kernels.problem.trace import label
from ..layer import Layer
from ..suite import Suite, SuiteForm, SuitePoint, Sweep
from ._rules import DROPLESS

MODEL = "OLMoE-1B-7B"
LOADS = ("uniform", "zipf:0.5", "zipf:1", "zipf:1.5", "dirichlet:0.3", "hot", "empty:0.5", "modalities:0.9", "text")


def _point(layer: Layer, load: str) -> SuitePoint:
    problem = layer.changed(load=load)
    series = f"{layer.title}, T={problem.T}"
    return SuitePoint(series=series, x=label(problem.load), model=layer.model, problem=problem)


suite = Suite(
    question="How much does an uneven load cost each dispatch?",
    axis="load",
    small=SuiteForm(
        baseline="loop",
        competitors=DROPLESS,
        sweeps=(Sweep(layer=Layer.of(MODEL, T=512, width=256), point=_point, values=LOADS),),
    ),
    full=SuiteForm(
        baseline="transformers_grouped_mm",
        competitors=DROPLESS,
        sweeps=tuple(
            Sweep(layer=Layer.of(MODEL, T=8192, dtype="bfloat16", mode=mode), point=_point, values=LOADS)
            for mode in ("forward", "train")
        ),
    ),
)
