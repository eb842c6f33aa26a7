"""The experts of Hugging Face transformers, `eager`: what a user of a released model runs today."""

from __future__ import annotations

from ._transformers import TransformersExperts


class TransformersEager(TransformersExperts):
    """``experts_implementation="eager"``."""

    implementation = "eager"


kernel = TransformersEager()
