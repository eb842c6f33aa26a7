"""Granularity: every expert split into G, and G times as many chosen; parameters and useful FLOPs stay."""

from __future__ import annotations

from ...kernels.problem import Problem
from ..suite import Place, Suite
from ._shapes import DROPLESS


def _places(problem: Problem, series: str, granularities: tuple[int, ...]) -> tuple[Place, ...]:
    return tuple(Place(series=series, x=G, problem=problem.refine(G)) for G in granularities)


suite = Suite(
    question="What do finer experts cost at equal useful FLOPs and parameters?",
    axis="granularity G",
    baseline="loop",
    kernels=DROPLESS,
    small=_places(Problem(T=512, D=256, F=2048, E=8, K=1), "D=256, d_ff=2048, E=8 G, K=G, T=512", (1, 2, 8, 32)),
    # The widths of ScatterMoE's granularity benchmark.
    full=tuple(
        place
        for mode in ("forward", "train")
        for place in _places(
            Problem(T=16384, D=4096, F=8192, E=8, K=1, dtype="bfloat16", mode=mode),
            "D=4096, d_ff=8192, E=8 G, K=G, T=16384",
            (1, 2, 4, 8, 16, 32),
        )
    ),
)
