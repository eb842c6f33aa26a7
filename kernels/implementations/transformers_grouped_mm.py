"""The experts of Hugging Face transformers, `grouped_mm`: what a user of a released model runs today."""

from __future__ import annotations

from ._transformers import TransformersExperts


class TransformersGroupedMm(TransformersExperts):
    """``experts_implementation="grouped_mm"``."""

    implementation = "grouped_mm"


kernel = TransformersGroupedMm()
