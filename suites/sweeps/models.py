"""Models: the shapes of released models, at their own expert counts and ratios of widths."""

from __future__ import annotations

from ...kernels.models import MODELS
from ..suite import Place, Suite
from ._shapes import DROPLESS

suite = Suite(
    question="Which dispatch is fastest for the layer of a released model?",
    axis="model",
    baseline="transformers_grouped_mm",
    kernels=DROPLESS,
    small=tuple(
        Place(series="D up to 256, T=512", x=preset.name, problem=preset.problem(T=512).scaled(256))
        for preset in MODELS
    ),
    full=tuple(
        Place(series=f"T={T}", x=preset.name, problem=preset.problem(T=T, dtype="bfloat16", mode=mode))
        for T, mode in ((64, "forward"), (8192, "forward"), (8192, "train"))
        for preset in MODELS
    ),
)
