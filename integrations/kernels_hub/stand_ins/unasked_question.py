"""The question that every kernel answers, in the place of `kernels.question`: the folder has no oracle to ask."""

from __future__ import annotations


class UnaskedQuestion:
    """Outputs of a layer."""


Question = UnaskedQuestion
LAYER = UnaskedQuestion()
