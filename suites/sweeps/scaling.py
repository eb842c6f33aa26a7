"""Weak scaling: a constant number of tokens on each rank, measured on few ranks and predicted for more."""

from __future__ import annotations

from typing import get_args

from ...kernels.problem import Mode
from ..layer import Layer
from ..suite import Suite, SuiteForm, SuitePoint, Sweep
from ._rules import BETWEEN_RANKS

MODEL = "OLMoE-1B-7B"


def _point(layer: Layer, use: tuple[int, Mode]) -> SuitePoint:
    ranks, mode = use
    problem, tokens = layer.changed(ranks=ranks, mode=mode), layer.problem.T
    return SuitePoint(
        series=f"{layer.title}, {tokens} tokens a rank",
        x=problem.ranks,
        model=layer.model,
        problem=problem.replace(T=tokens * problem.ranks),
    )


def _form(layer: Layer, ranks: tuple[int, ...]) -> SuiteForm:
    uses = tuple((count, mode) for count in ranks for mode in get_args(Mode))
    sweeps = (Sweep(layer=layer, point=_point, values=uses),)
    return SuiteForm(baseline="alltoall", competitors=BETWEEN_RANKS, sweeps=sweeps)


suite = Suite(
    question="How does a layer scale with the ranks, each with as many tokens, and which dispatch scales best?",
    axis="ranks",
    small=_form(Layer.of(MODEL, T=512, width=256), (1, 2, 4)),
    full=_form(Layer.of(MODEL, T=4096, dtype="bfloat16"), (1, 2, 4, 8, 16)),
    beyond=tuple(2**power for power in range(13)),
)
