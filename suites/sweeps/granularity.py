"""Granularity: every expert split into G, with G times as many chosen, at equal parameters and useful FLOPs."""

from __future__ import annotations

from ...kernels.problem import Problem
from ..layer import Layer
from ..suite import Suite, SuiteForm, SuitePoint, Sweep
from ._rules import DROPLESS, REDUCED_DROPLESS

# The widths of ScatterMoE's granularity benchmark.
WIDE = Problem(T=16384, D=4096, F=8192, E=8, K=1, dtype="bfloat16")
# The finest experts of SonicMoE's benchmark (Guo et al. 2025).
FINE = SuitePoint(
    series="D=1536, d_ff=2048, E=128, K=8, T=24576",
    x=8,
    problem=Problem(T=24576, D=1536, F=256, E=128, K=8, dtype="bfloat16"),
)


def _point(layer: Layer, G: int) -> SuitePoint:
    return SuitePoint(series=f"{layer.title}, T={layer.problem.T}", x=G, problem=layer.problem.refine(G))


def _sweep(problem: Problem, granularities: tuple[int, ...]) -> Sweep:
    name = f"D={problem.D}, d_ff={problem.F}, E={problem.E} G, K=G"
    return Sweep(layer=Layer(name=name, problem=problem), point=_point, values=granularities)


suite = Suite(
    question="What do finer experts cost at equal useful FLOPs and parameters?",
    axis="granularity G",
    small=SuiteForm(
        baseline="loop",
        competitors=DROPLESS,
        sweeps=(_sweep(Problem(T=512, D=256, F=2048, E=8, K=1), (1, 2, 8, 32)),),
    ),
    full=SuiteForm(
        baseline="transformers_grouped_mm",
        competitors=DROPLESS,
        sweeps=(
            _sweep(WIDE, (1, 2, 4, 8, 16, 32)),
            _sweep(WIDE.replace(mode="train"), (1, 2, 4, 8, 16, 32)),
        ),
        also=(FINE,),
    ),
    reduced=SuiteForm(
        baseline="transformers_grouped_mm",
        competitors=REDUCED_DROPLESS,
        sweeps=(_sweep(WIDE, (1, 8)),),
        also=(FINE,),
    ),
)
