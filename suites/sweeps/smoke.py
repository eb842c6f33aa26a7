"""Smoke: every family once, on real model shapes, in under a minute on two cores."""

from __future__ import annotations

from ...kernels.problem.models import model
from ..suite import Suite, SuiteForm, SuitePoint
from ._shapes import DROPLESS, DROPPING, EVERY_DROPLESS, EVERY_DROPPING, GPU_BASELINE

WIDE, NARROW = "Mixtral-8x7B", "Qwen3-30B-A3B"

_MIXTRAL = model(WIDE).problem(T=512).scaled(512)
_TRAINING = model(WIDE).problem(T=1024, mode="train").scaled(256)
_QWEN3 = model(NARROW).problem(T=512).scaled(512)


def _form(baseline: str, dropless: tuple[str, ...], dropping: tuple[str, ...]) -> SuiteForm:
    padded, parallel = _MIXTRAL.replace(capacity_factor=1.25), _MIXTRAL.replace(ranks=2)
    return SuiteForm(
        baseline=baseline,
        places=(
            SuitePoint(series="dropless", x=WIDE, model=WIDE, problem=_MIXTRAL, kernels=dropless),
            SuitePoint(series="dropless", x=NARROW, model=NARROW, problem=_QWEN3, kernels=dropless),
            SuitePoint(series="dropless", x=WIDE, model=WIDE, problem=_TRAINING, kernels=dropless),
            SuitePoint(series="capacity factor 1.25", x=WIDE, model=WIDE, problem=padded, kernels=dropping),
            SuitePoint(series="two ranks", x=WIDE, model=WIDE, problem=parallel, kernels=("alltoall",)),
        ),
    )


suite = Suite(
    question="Does every family run, give the right numbers, and at what speed?",
    axis="model",
    small=_form("loop", DROPLESS, DROPPING),
    full=_form(GPU_BASELINE, EVERY_DROPLESS, EVERY_DROPPING),
)
