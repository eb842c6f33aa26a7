"""Blocks: layers that are more than experts, or use their products in another way, each at one shape."""

from __future__ import annotations

from ...kernels.problem import Problem
from ..layer import Layer
from ..suite import Suite, SuiteForm, SuitePoint, Sweep
from ._rules import DROPLESS, GPU_BASELINE


def _point(layer: Layer, _: None) -> SuitePoint:
    problem = layer.problem
    series = f"D={problem.D}, T={problem.T}"
    return SuitePoint(series=series, x=problem.block or "experts alone", problem=problem)


def _sweeps(experts: Problem) -> tuple[Sweep, ...]:
    """Return one point for each block around experts of this shape, after one of the experts alone."""
    F = experts.F
    problems = (
        experts,
        experts.replace(block=f"shared:width={4 * F},sigmoid=true"),  # as wide as Qwen1.5-MoE has it
        experts.replace(K=1, block=f"residual_mlp:width={F}"),
        experts.replace(D=4 * experts.D, block=f"latent:width={experts.D}"),
        experts.replace(F=16, gated=False, activation="identity", block="lora"),
    )
    return tuple(Sweep(layer=Layer(name=problem.block, problem=problem), point=_point) for problem in problems)


suite = Suite(
    question="What do layers cost that have more in them than experts?",
    axis="block",
    small=SuiteForm(
        baseline="loop",
        competitors=DROPLESS,
        sweeps=_sweeps(Problem(T=256, D=256, F=128, E=16, K=4)),
    ),
    full=SuiteForm(
        baseline=GPU_BASELINE,
        competitors=DROPLESS,
        sweeps=(
            *_sweeps(Problem(T=8192, D=1024, F=1024, E=64, K=4, dtype="bfloat16")),
            *_sweeps(Problem(T=8192, D=1024, F=1024, E=64, K=4, dtype="bfloat16", mode="train")),
        ),
    ),
)
