"""Gate: points that show a slowdown, measured in seconds by one process so that many processes are affordable."""

from __future__ import annotations

from ...kernels.problem import Problem
from ...kernels.problem.models import model
from ..competitors import CompetitorRule
from ..suite import Suite, SuiteForm, SuitePoint
from ._rules import DROPLESS, DROPPING, GPU_BASELINE

# Without peers, which change with their own releases.
OWN = CompetitorRule(groups=("dropless",), leave_out=DROPLESS.leave_out)
_IN_TORCH = dict.fromkeys(("padded", "gshard_einsum"), "the small form watches it")
GPU_OWN = CompetitorRule(
    groups=("dropless",),
    leave_out=_IN_TORCH | dict.fromkeys(("loop", "block_sparse", "scatter"), "the small form watches it"),
)
GPU_DROPPING = DROPPING.leaving_out(_IN_TORCH)

_MIXTRAL, _QWEN3 = model("Mixtral-8x7B"), model("Qwen3-30B-A3B")


def _places(mixtral: Problem, qwen3: Problem, dropping: CompetitorRule) -> tuple[SuitePoint, ...]:
    """Return points with few wide experts and with many narrow ones, a training step, and experts that drop."""
    capped = mixtral.replace(capacity_factor=1.25)
    wide, narrow, training = _MIXTRAL.name, _QWEN3.name, mixtral.replace(mode="train")
    return (
        SuitePoint(series="dropless", x=wide, model=wide, problem=mixtral),
        SuitePoint(series="dropless", x=narrow, model=narrow, problem=qwen3),
        SuitePoint(series="dropless, training", x=wide, model=wide, problem=training),
        SuitePoint(series="capacity factor 1.25", x=wide, model=wide, problem=capped, competitors=dropping),
    )


suite = Suite(
    question="Did the last change make anything slower?",
    axis="model",
    small=SuiteForm(
        baseline="loop",
        competitors=OWN,
        places=_places(_MIXTRAL.problem(T=256).scaled(128), _QWEN3.problem(T=256).scaled(256), DROPPING),
    ),
    full=SuiteForm(
        baseline=GPU_BASELINE,
        competitors=GPU_OWN,
        places=_places(
            _MIXTRAL.problem(T=4096, dtype="bfloat16"), _QWEN3.problem(T=4096, dtype="bfloat16"), GPU_DROPPING
        ),
    ),
)
