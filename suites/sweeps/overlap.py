"""Overlap: tokens split into chunks, one of which is sent while another is computed."""

from __future__ import annotations

from ..layer import Layer
from ..suite import Suite, SuiteForm, SuitePoint, Sweep, rank_words
from ._rules import BETWEEN_RANKS

MODEL = "OLMoE-1B-7B"
CHUNKS = (1, 2, 4, 8)


def _point(layer: Layer, case: tuple[str, int]) -> SuitePoint:
    mode, chunks = case
    problem = layer.changed(mode=mode)
    series = f"{layer.title}, T={problem.T}, {rank_words(problem)}"
    return SuitePoint(series=series, x=chunks, model=layer.model, problem=problem, config={"chunks": chunks})


def _form(layer: Layer) -> SuiteForm:
    cases = tuple((mode, chunks) for mode in ("forward", "train") for chunks in CHUNKS)
    sweeps = (Sweep(layer=layer, point=_point, values=cases),)
    return SuiteForm(baseline="alltoall", competitors=BETWEEN_RANKS, sweeps=sweeps)


suite = Suite(
    question="How much of the communication hides behind the experts, and in how many chunks?",
    axis="chunks",
    small=_form(Layer.of(MODEL, T=4096, ranks=2, width=256)),
    full=_form(Layer.of(MODEL, T=32768, ranks=8, dtype="bfloat16")),
)
