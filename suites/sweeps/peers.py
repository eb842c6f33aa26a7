"""Peers: against the experts of Hugging Face transformers, and against dense products of the same FLOPs."""

from __future__ import annotations

from ..layer import Layer
from ..suite import Suite, SuiteForm, SuitePoint, Sweep
from ._rules import DROPLESS

COUNTS = (512, 1024, 2048, 4096, 8192)
MODELS = ("Mixtral-8x7B", "Qwen3-30B-A3B")


def _point(layer: Layer, T: int) -> SuitePoint:
    problem = layer.changed(T=T)
    return SuitePoint(series=layer.with_width, x=problem.T, model=layer.model, problem=problem)


def _sweeps(*layers: Layer) -> tuple[Sweep, ...]:
    return tuple(Sweep(layer=layer, point=_point, values=COUNTS) for layer in layers)


suite = Suite(
    question="Is the best dispatch here at least as fast as transformers' best, and how close to dense products?",
    axis="tokens T",
    small=SuiteForm(
        baseline="transformers_grouped_mm",
        competitors=DROPLESS.and_references(),
        sweeps=_sweeps(
            *(Layer.of(name, T=1, width=512, dtype=dtype) for dtype in ("float32", "bfloat16") for name in MODELS)
        ),
    ),
    full=SuiteForm(
        baseline="transformers_grouped_mm",
        competitors=DROPLESS.and_references(),
        sweeps=_sweeps(*(Layer.of(name, T=1, dtype="bfloat16") for name in MODELS)),
    ),
)
