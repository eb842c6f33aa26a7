"""Expert count: the same tokens, the same useful FLOPs, spread over more experts."""

from __future__ import annotations

from ...kernels.problem import Problem
from ..layer import Layer
from ..suite import Suite, SuiteForm, SuitePoint, Sweep
from ._rules import DROPLESS, REDUCED_DROPLESS

LARGE = Problem(T=16384, D=2048, F=1024, E=8, K=8, dtype="bfloat16")


def _point(layer: Layer, E: int) -> SuitePoint:
    problem = layer.changed(E=E)
    return SuitePoint(series=f"{layer.title}, T={problem.T}", x=problem.E, problem=problem)


def _sweep(problem: Problem, counts: tuple[int, ...]) -> Sweep:
    layer = Layer(name=f"D={problem.D}, F={problem.F}, K={problem.K}", problem=problem)
    return Sweep(layer=layer, point=_point, values=counts)


suite = Suite(
    question="How does each dispatch scale with the number of experts at equal useful FLOPs?",
    axis="experts E",
    small=SuiteForm(
        baseline="loop",
        competitors=DROPLESS,
        sweeps=(_sweep(Problem(T=1024, D=256, F=512, E=8, K=2), (8, 32, 128, 512)),),
    ),
    full=SuiteForm(
        baseline="transformers_grouped_mm",
        competitors=DROPLESS,
        sweeps=(
            _sweep(LARGE, (8, 16, 32, 64, 128, 256, 512)),
            _sweep(LARGE.replace(mode="train"), (8, 16, 32, 64, 128, 256, 512)),
        ),
    ),
    reduced=SuiteForm(
        baseline="transformers_grouped_mm", competitors=REDUCED_DROPLESS, sweeps=(_sweep(LARGE, (8, 128)),)
    ),
)
