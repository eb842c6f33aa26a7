"""Gate: what a change may have made slower, in seconds a process, so that many fresh processes are affordable."""

from __future__ import annotations

from ...kernels.problem import Problem
from ...kernels.problem.models import model
from ..suite import Suite, SuiteForm, SuitePoint
from ._shapes import DROPPING, GPU_BASELINE, GPU_DROPPING

OWN = ("loop", "padded", "block_sparse", "scatter", "grouped")  # peers change with their own releases
GPU_OWN = ("grouped", "triton_scatter", "triton_padded", "triton_block_sparse")

_MIXTRAL, _QWEN3 = model("Mixtral-8x7B"), model("Qwen3-30B-A3B")


def _places(mixtral: Problem, qwen3: Problem, dropping: tuple[str, ...]) -> tuple[SuitePoint, ...]:
    """Few wide experts and many narrow ones, a training step, and experts that drop."""
    capped = mixtral.replace(capacity_factor=1.25)
    wide, narrow, training = _MIXTRAL.name, _QWEN3.name, mixtral.replace(mode="train")
    return (
        SuitePoint(series="dropless", x=wide, model=wide, problem=mixtral),
        SuitePoint(series="dropless", x=narrow, model=narrow, problem=qwen3),
        SuitePoint(series="dropless, training", x=wide, model=wide, problem=training),
        SuitePoint(series="capacity factor 1.25", x=wide, model=wide, problem=capped, kernels=dropping),
    )


suite = Suite(
    question="Did the last change make anything slower?",
    axis="model",
    small=SuiteForm(
        baseline="loop",
        kernels=OWN,
        places=_places(_MIXTRAL.problem(T=256).scaled(128), _QWEN3.problem(T=256).scaled(256), DROPPING),
    ),
    full=SuiteForm(
        baseline=GPU_BASELINE,
        kernels=GPU_OWN,
        places=_places(
            _MIXTRAL.problem(T=4096, dtype="bfloat16"), _QWEN3.problem(T=4096, dtype="bfloat16"), GPU_DROPPING
        ),
    ),
)
