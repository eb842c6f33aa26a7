"""Smoke: every family once, on real model shapes, in under a minute on two cores."""

from __future__ import annotations

from ...kernels.models import model
from ..suite import Place, Suite
from ._shapes import DROPLESS, DROPPING

_MIXTRAL = model("Mixtral-8x7B").problem(T=512).scaled(512)
_TRAINING = model("Mixtral-8x7B").problem(T=1024, mode="train").scaled(256)
_QWEN3 = model("Qwen3-30B-A3B").problem(T=512).scaled(512)

_PLACES = (
    Place(series="dropless", x="Mixtral-8x7B", problem=_MIXTRAL, kernels=DROPLESS),
    Place(series="dropless", x="Qwen3-30B-A3B", problem=_QWEN3, kernels=DROPLESS),
    Place(series="dropless", x="Mixtral-8x7B", problem=_TRAINING, kernels=DROPLESS),
    Place(
        series="capacity factor 1.25",
        x="Mixtral-8x7B",
        problem=_MIXTRAL.replace(capacity_factor=1.25),
        kernels=DROPPING,
    ),
    Place(series="two ranks", x="Mixtral-8x7B", problem=_MIXTRAL.replace(ranks=2), kernels=("expert_parallel",)),
)

suite = Suite(
    question="Does every family run, give the right numbers, and at what speed?",
    axis="model",
    baseline="loop",
    small=_PLACES,
    full=_PLACES,
)
