"""Smoke: every family once, on real model shapes, in under a minute on two cores."""

from __future__ import annotations

from ..layer import Layer
from ..suite import Suite, SuiteForm, SuitePoint, Sweep, capacity_words, rank_words
from ._rules import BETWEEN_RANKS, DROPLESS, DROPPING, GPU_BASELINE

WIDE, NARROW = "Mixtral-8x7B", "Qwen3-30B-A3B"
LAYERS = (
    Layer.of(NARROW, T=512, width=512),
    Layer.of(WIDE, T=512, width=512),
    Layer.of(WIDE, T=512, width=512, capacity_factor=1.25),
    Layer.of(WIDE, T=1024, width=256, mode="train"),
    Layer.of(WIDE, T=512, width=512, ranks=2),
)

ONE_DISPATCHER = BETWEEN_RANKS.leaving_out(
    dict.fromkeys(
        ("alltoall_dedup", "allgather", "hierarchical"),
        "one shows that ranks find each other; the suite parallel compares them",
    )
)


def _point(layer: Layer, _: None) -> SuitePoint:
    problem, words, rule = layer.problem, [], None
    if problem.capacity_factor or problem.ranks == 1:
        words.append(capacity_words(problem))
        rule = DROPPING if problem.capacity_factor else None
    if problem.ranks > 1:
        words.append(rank_words(problem))
        rule = ONE_DISPATCHER
    return SuitePoint(
        series=", ".join(words),
        x=layer.name,
        model=layer.model,
        problem=problem,
        competitors=rule,
    )


def _form(baseline: str) -> SuiteForm:
    sweeps = tuple(Sweep(layer=layer, point=_point) for layer in LAYERS)
    return SuiteForm(baseline=baseline, competitors=DROPLESS, sweeps=sweeps)


suite = Suite(
    question="Does every family run, give the right numbers, and at what speed?",
    axis="model",
    small=_form("loop"),
    full=_form(GPU_BASELINE),
)
