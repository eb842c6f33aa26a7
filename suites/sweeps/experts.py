"""Expert count: the same tokens, the same useful FLOPs, spread over more experts."""

from __future__ import annotations

from ...kernels.problem import Problem
from ..suite import Suite, SuiteForm, SuitePoint
from ._rules import DROPLESS, REDUCED_DROPLESS


def _places(problem: Problem, series: str, counts: tuple[int, ...]) -> tuple[SuitePoint, ...]:
    return tuple(SuitePoint(series=series, x=E, problem=problem.replace(E=E)) for E in counts)


LARGE = Problem(T=16384, D=2048, F=1024, E=8, K=8, dtype="bfloat16")
LARGE_SERIES = "D=2048, F=1024, K=8, T=16384"

suite = Suite(
    question="How does each dispatch scale with the number of experts at equal useful FLOPs?",
    axis="experts E",
    small=SuiteForm(
        baseline="loop",
        competitors=DROPLESS,
        places=_places(Problem(T=1024, D=256, F=512, E=8, K=2), "D=256, F=512, K=2, T=1024", (8, 32, 128, 512)),
    ),
    full=SuiteForm(
        baseline="transformers_grouped_mm",
        competitors=DROPLESS,
        places=(
            *_places(LARGE, LARGE_SERIES, (8, 16, 32, 64, 128, 256, 512)),
            *_places(LARGE.replace(mode="train"), LARGE_SERIES, (8, 16, 32, 64, 128, 256, 512)),
        ),
    ),
    reduced=SuiteForm(
        baseline="transformers_grouped_mm", competitors=REDUCED_DROPLESS, places=_places(LARGE, LARGE_SERIES, (8, 128))
    ),
)
