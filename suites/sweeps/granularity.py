"""Granularity: every expert split into G, with G times as many chosen, at equal parameters and useful FLOPs."""

from __future__ import annotations

from ...kernels.problem import Problem
from ..suite import Suite, SuiteForm, SuitePoint
from ._rules import DROPLESS, REDUCED_DROPLESS


def _places(problem: Problem, series: str, granularities: tuple[int, ...]) -> tuple[SuitePoint, ...]:
    return tuple(SuitePoint(series=series, x=G, problem=problem.refine(G)) for G in granularities)


# The widths of ScatterMoE's granularity benchmark.
WIDE = Problem(T=16384, D=4096, F=8192, E=8, K=1, dtype="bfloat16")
WIDE_SERIES = "D=4096, d_ff=8192, E=8 G, K=G, T=16384"
# The finest experts of SonicMoE's benchmark (Guo et al. 2025).
FINE = SuitePoint(
    series="D=1536, d_ff=2048, E=128, K=8, T=24576",
    x=8,
    problem=Problem(T=24576, D=1536, F=256, E=128, K=8, dtype="bfloat16"),
)

suite = Suite(
    question="What do finer experts cost at equal useful FLOPs and parameters?",
    axis="granularity G",
    small=SuiteForm(
        baseline="loop",
        competitors=DROPLESS,
        places=_places(Problem(T=512, D=256, F=2048, E=8, K=1), "D=256, d_ff=2048, E=8 G, K=G, T=512", (1, 2, 8, 32)),
    ),
    full=SuiteForm(
        baseline="transformers_grouped_mm",
        competitors=DROPLESS,
        places=(
            *_places(WIDE, WIDE_SERIES, (1, 2, 4, 8, 16, 32)),
            *_places(WIDE.replace(mode="train"), WIDE_SERIES, (1, 2, 4, 8, 16, 32)),
            FINE,
        ),
    ),
    reduced=SuiteForm(
        baseline="transformers_grouped_mm",
        competitors=REDUCED_DROPLESS,
        places=(*_places(WIDE, WIDE_SERIES, (1, 8)), FINE),
    ),
)
