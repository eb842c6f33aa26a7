"""Gate: points that show a slowdown, measured in seconds by one process so that many processes are affordable."""

from __future__ import annotations

from functools import partial

from ..competitors import CompetitorRule
from ..layer import Layer
from ..suite import Suite, SuiteForm, SuitePoint, Sweep, capacity_words
from ._rules import DROPPING, GPU_BASELINE, OWN_DROPLESS

_IN_TORCH = dict.fromkeys(("padded", "gshard_einsum"), "the small form watches it")
GPU_OWN = CompetitorRule(
    groups=("dropless",),
    leave_out=_IN_TORCH | dict.fromkeys(("loop", "block_sparse", "scatter"), "the small form watches it"),
)
GPU_DROPPING = DROPPING.leaving_out(_IN_TORCH)

WIDE, NARROW = "Mixtral-8x7B", "Qwen3-30B-A3B"


def _point(layer: Layer, _: None, dropping: CompetitorRule) -> SuitePoint:
    problem = layer.problem
    training = ", training" if problem.mode == "train" else ""
    return SuitePoint(
        series=f"{capacity_words(problem)}{training}",
        x=layer.name,
        model=layer.model,
        problem=problem,
        competitors=dropping if problem.capacity_factor else None,
    )


def _sweeps(mixtral: Layer, qwen3: Layer, dropping: CompetitorRule) -> tuple[Sweep, ...]:
    """Return sweeps of one point each: few wide experts, many narrow ones, a training step, and experts that drop."""
    training, capped = mixtral.used_as(None, {"mode": "train"}), mixtral.used_as(None, {"capacity_factor": 1.25})
    point = partial(_point, dropping=dropping)
    return tuple(Sweep(layer=layer, point=point) for layer in (mixtral, qwen3, training, capped))


suite = Suite(
    question="Did the last change make anything slower?",
    axis="model",
    small=SuiteForm(
        baseline="loop",
        competitors=OWN_DROPLESS,  # without peers, which change with their own releases
        sweeps=_sweeps(Layer.of(WIDE, T=64, width=256), Layer.of(NARROW, T=256, width=256), DROPPING),
    ),
    full=SuiteForm(
        baseline=GPU_BASELINE,
        competitors=GPU_OWN,
        sweeps=_sweeps(
            Layer.of(WIDE, T=4096, dtype="bfloat16"), Layer.of(NARROW, T=4096, dtype="bfloat16"), GPU_DROPPING
        ),
    ),
)
