"""Models: the shapes of released models, at their own expert counts and ratios of widths."""

from __future__ import annotations

from collections.abc import Sequence

from ...kernels.problem.models import MODELS
from ..layer import Layer
from ..suite import Suite, SuiteForm, SuitePoint, Sweep
from ._rules import DROPLESS, REDUCED_DROPLESS

NAMES = tuple(preset.name for preset in MODELS)
SMALL_D = 256


def _point(layer: Layer, _: None) -> SuitePoint:
    width = "" if layer.width is None else f"D up to {layer.width}, "
    return SuitePoint(series=f"{width}T={layer.problem.T}", x=layer.name, model=layer.model, problem=layer.problem)


def _sweeps(names: Sequence[str]) -> tuple[Sweep, ...]:
    return tuple(
        Sweep(layer=Layer.of(name, T=T, dtype="bfloat16", mode=mode), point=_point)
        for T, mode in ((64, "forward"), (8192, "forward"), (8192, "train"))
        for name in names
    )


suite = Suite(
    question="Which dispatch is fastest for the layer of a released model?",
    axis="model",
    small=SuiteForm(
        baseline="transformers_grouped_mm",
        competitors=DROPLESS,
        sweeps=tuple(Sweep(layer=Layer.of(name, T=512, width=SMALL_D), point=_point) for name in NAMES),
    ),
    full=SuiteForm(baseline="transformers_grouped_mm", competitors=DROPLESS, sweeps=_sweeps(NAMES)),
    # Few wide experts, and many narrow ones; decode, prefill and a training step.
    reduced=SuiteForm(
        baseline="transformers_grouped_mm",
        competitors=REDUCED_DROPLESS.and_references(),
        sweeps=_sweeps(("Mixtral-8x7B", "Qwen3-30B-A3B")),
    ),
)
