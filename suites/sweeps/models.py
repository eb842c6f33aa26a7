"""Models: the shapes of released models, at their own expert counts and ratios of widths."""

from __future__ import annotations

from ...kernels.problem import Problem
from ...kernels.problem.models import MODELS, Model, model
from ..suite import Suite, SuiteForm, SuitePoint
from ._rules import DROPLESS, REDUCED_DROPLESS


def _place(preset: Model, series: str, problem: Problem) -> SuitePoint:
    return SuitePoint(series=series, x=preset.name, model=preset.name, problem=problem)


def _places(presets: tuple[Model, ...]) -> tuple[SuitePoint, ...]:
    return tuple(
        _place(preset, f"T={T}", preset.problem(T=T, dtype="bfloat16", mode=mode))
        for T, mode in ((64, "forward"), (8192, "forward"), (8192, "train"))
        for preset in presets
    )


suite = Suite(
    question="Which dispatch is fastest for the layer of a released model?",
    axis="model",
    small=SuiteForm(
        baseline="transformers_grouped_mm",
        competitors=DROPLESS,
        places=tuple(_place(preset, "D up to 256, T=512", preset.problem(T=512).scaled(256)) for preset in MODELS),
    ),
    full=SuiteForm(baseline="transformers_grouped_mm", competitors=DROPLESS, places=_places(MODELS)),
    # Few wide experts, and many narrow ones; decode, prefill and a training step.
    reduced=SuiteForm(
        baseline="transformers_grouped_mm",
        competitors=REDUCED_DROPLESS.and_references(),
        places=_places((model("Mixtral-8x7B"), model("Qwen3-30B-A3B"))),
    ),
)
