"""Expert parallelism: the dispatchers over 1, 2 and 4 ranks, dropless and padded to a capacity, under two loads."""

from __future__ import annotations

from typing import get_args

from ...kernels.problem import Mode
from ...kernels.problem.trace import label
from ..layer import Layer
from ..suite import Suite, SuiteForm, SuitePoint, Sweep, capacity_words
from ._rules import BETWEEN_RANKS

MODEL = "OLMoE-1B-7B"


def _point(layer: Layer, use: dict[str, object]) -> SuitePoint:
    problem = layer.changed(**use)
    return SuitePoint(
        series=f"{layer.title}, T={problem.T}, {capacity_words(problem)}, {label(problem.load)}",
        x=problem.ranks,
        model=layer.model,
        problem=problem,
    )


def _form(layer: Layer, ranks: tuple[int, ...]) -> SuiteForm:
    uses = tuple(
        {"ranks": count, "mode": mode, "capacity_factor": factor, "load": load}
        for count in ranks  # outermost: other ranks are other processes
        for mode in get_args(Mode)
        for factor, load in ((None, "uniform"), (1.25, "uniform"), (None, "zipf:1"))
    )
    sweeps = (Sweep(layer=layer, point=_point, values=uses),)
    return SuiteForm(baseline="alltoall", competitors=BETWEEN_RANKS, sweeps=sweeps)


suite = Suite(
    question="Which dispatch between ranks is fastest, and what does sharding the experts cost in time and bytes sent?",
    axis="ranks",
    small=_form(Layer.of(MODEL, T=1024, width=256), (1, 2, 4)),
    full=_form(Layer.of(MODEL, T=8192, dtype="bfloat16"), (1, 2, 4, 8)),
)
