"""Smoke: every family once, on real model shapes, in under a minute on two cores."""

from __future__ import annotations

from ...kernels.problem.models import model
from ..suite import Suite, SuiteForm, SuitePoint
from ._rules import BETWEEN_RANKS, DROPLESS, DROPPING, GPU_BASELINE

WIDE, NARROW = "Mixtral-8x7B", "Qwen3-30B-A3B"

_MIXTRAL = model(WIDE).problem(T=512).scaled(512)
_TRAINING = model(WIDE).problem(T=1024, mode="train").scaled(256)
_QWEN3 = model(NARROW).problem(T=512).scaled(512)


ONE_DISPATCHER = BETWEEN_RANKS.leaving_out(
    dict.fromkeys(
        ("alltoall_dedup", "allgather", "hierarchical"),
        "one shows that ranks find each other; the suite parallel compares them",
    )
)


def _form(baseline: str) -> SuiteForm:
    padded, parallel = _MIXTRAL.replace(capacity_factor=1.25), _MIXTRAL.replace(ranks=2)
    return SuiteForm(
        baseline=baseline,
        competitors=DROPLESS,
        places=(
            SuitePoint(series="dropless", x=WIDE, model=WIDE, problem=_MIXTRAL),
            SuitePoint(series="dropless", x=NARROW, model=NARROW, problem=_QWEN3),
            SuitePoint(series="dropless", x=WIDE, model=WIDE, problem=_TRAINING),
            SuitePoint(series="capacity factor 1.25", x=WIDE, model=WIDE, problem=padded, competitors=DROPPING),
            SuitePoint(series="two ranks", x=WIDE, model=WIDE, problem=parallel, competitors=ONE_DISPATCHER),
        ),
    )


suite = Suite(
    question="Does every family run, give the right numbers, and at what speed?",
    axis="model",
    small=_form("loop"),
    full=_form(GPU_BASELINE),
)
