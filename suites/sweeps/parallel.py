"""Expert parallelism: the same layer over 1, 2 and 4 ranks, dropless and padded to a capacity."""

from __future__ import annotations

from ...kernels.models import model
from ...kernels.problem import Problem
from ..suite import Form, Place, Suite


def _form(problem: Problem, name: str) -> Form:
    places = tuple(
        Place(
            series=f"{name}, {'dropless' if factor is None else f'capacity factor {factor:g}'}",
            x=ranks,
            problem=problem.replace(ranks=ranks, capacity_factor=factor, mode=mode),
        )
        for mode in ("forward", "train")
        for factor in (None, 1.25)
        for ranks in (1, 2, 4)
    )
    return Form(baseline="expert_parallel", kernels=("expert_parallel",), places=places)


suite = Suite(
    question="What does sharding the experts over ranks cost in time and in bytes sent?",
    axis="ranks",
    small=_form(model("OLMoE-1B-7B").problem(T=1024).scaled(256), "OLMoE-1B-7B, D=256, T=1024"),
    full=_form(model("OLMoE-1B-7B").problem(T=8192, dtype="bfloat16"), "OLMoE-1B-7B, T=8192"),
)
