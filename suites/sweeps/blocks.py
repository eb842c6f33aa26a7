"""Blocks: layers that have more in them than experts, each around the same ones; Soft MoE with more and more."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from ...kernels.problem import InvalidProblem, Problem
from ..layer import Layer
from ..suite import Suite, SuiteForm, SuitePoint, Sweep
from ._rules import DROPLESS, GPU_BASELINE

RANK: Final = 16  # of LoRA experts, the middle of the usual 4 to 64
SHARED: Final = 4  # times an expert's width, as in Qwen1.5-MoE
HEAD: Final = 64  # width of an attention head
LENGTH: Final = 256  # tokens of a sequence of Soft MoE: an image of 16 by 16 patches
MOST_EXPERTS: Final = 128  # of Soft MoE, and its slots for a sequence
LINEAR: Final = {"gated": False, "activation": "identity"}
Changes = Mapping[str, object]

BLOCKS: Final[Mapping[str, Callable[[Problem], Changes]]] = {
    "experts alone": lambda _: {"block": ""},
    "shared": lambda problem: {"block": f"shared:width={SHARED * problem.F},sigmoid=true"},
    "residual_mlp": lambda _: {"block": "residual_mlp", "K": 1},
    "latent": lambda _: {"block": "latent"},
    "lora": lambda _: {"block": "lora", "F": RANK, **LINEAR},
    "moa": lambda _: {"block": "moa", "F": HEAD, **LINEAR},
    "switchhead": lambda _: {"block": "switchhead", "F": HEAD, **LINEAR},
}
"""What makes a layer with a block of experts alone."""


FEW: Final = DROPLESS.leaving_out(
    dict.fromkeys(
        ("block_sparse", "transformers_eager"),
        "what stands around the experts is the same for all, and the suite `peers` compares the experts",
    )
)


def _refuse_fixed(layer: Layer) -> None:
    if "block" in layer.fixed:
        raise InvalidProblem("this suite compares blocks: leave the block out, or ask another suite")


def _point(layer: Layer, name: str) -> SuitePoint:
    _refuse_fixed(layer)
    problem = layer.changed(**BLOCKS[name](layer.problem))
    return SuitePoint(series=f"blocks, T={problem.T}", x=name, problem=problem)


def _soft_point(layer: Layer, E: int) -> SuitePoint:
    """Return Soft MoE with so many experts, and as many slots as the largest number of them."""
    _refuse_fixed(layer)
    problem = layer.changed(E=E, K=1, block=f"soft_moe:slots={MOST_EXPERTS // E},length={LENGTH}")
    series = f"Soft MoE, {MOST_EXPERTS} slots of {LENGTH} tokens"
    return SuitePoint(series=series, x=f"E={problem.E}", problem=problem)


def _sweeps(experts: Problem, soft: Problem, counts: tuple[int, ...]) -> tuple[Sweep, ...]:
    """Return one point for each block around these experts, and Soft MoE of these tokens with numbers of experts."""
    return (
        Sweep(layer=Layer(name="experts", problem=experts), point=_point, values=tuple(BLOCKS)),
        Sweep(layer=Layer(name="soft", problem=soft), point=_soft_point, values=counts),
    )


SMALL = Problem(T=256, D=256, F=128, E=16, K=4)
LARGE = Problem(T=8192, D=1024, F=1024, E=64, K=4, dtype="bfloat16")
# So many sequences that the most experts have rows enough to be bound by their products, not by their weights.
SOFT_SMALL = SMALL.replace(T=16 * LENGTH, F=64)
SOFT_LARGE = LARGE.replace(T=256 * LENGTH)

suite = Suite(
    question="What do layers cost that have more in them than experts, and is the time of Soft MoE flat in E?",
    axis="block",
    small=SuiteForm(baseline="loop", competitors=FEW, sweeps=_sweeps(SMALL, SOFT_SMALL, (8, 32, 128)), seconds=0.5),
    full=SuiteForm(
        baseline=GPU_BASELINE,
        competitors=DROPLESS,
        sweeps=(
            *_sweeps(LARGE, SOFT_LARGE, (8, 16, 32, 64, 128)),
            *_sweeps(LARGE.replace(mode="train"), SOFT_LARGE.replace(mode="train"), (8, 32, 128)),
        ),
    ),
)
