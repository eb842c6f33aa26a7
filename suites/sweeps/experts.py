"""Expert count: the same tokens, the same useful FLOPs, spread over more experts."""

from __future__ import annotations

from ...kernels.problem import Problem
from ..suite import Place, Suite
from ._shapes import DROPLESS


def _places(problem: Problem, series: str, counts: tuple[int, ...]) -> tuple[Place, ...]:
    return tuple(Place(series=series, x=E, problem=problem.replace(E=E)) for E in counts)


suite = Suite(
    question="How does each dispatch scale with the number of experts at equal useful FLOPs?",
    axis="experts E",
    baseline="loop",
    kernels=DROPLESS,
    small=_places(Problem(T=1024, D=256, F=512, E=8, K=2), "D=256, F=512, K=2, T=1024", (8, 32, 128, 512)),
    full=tuple(
        place
        for mode in ("forward", "train")
        for place in _places(
            Problem(T=16384, D=2048, F=1024, E=8, K=8, dtype="bfloat16", mode=mode),
            "D=2048, F=1024, K=8, T=16384",
            (8, 16, 32, 64, 128, 256, 512),
        )
    ),
)
