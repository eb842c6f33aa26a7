"""Top k of a random projection that is never trained, with K growing over training (Chen et al. 2023, SMoE-Dropout)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ..topk_rule import TopkRouter, TopkRule


@dataclass(frozen=True)
class FixedRandom(TopkRouter):
    """Weights are the softmax over the K largest logits; the projection stays as drawn. K is that of `growing_k` now.

    Gates add up to 1.
    """

    frozen: ClassVar[frozenset[str]] = frozenset({"weight"})

    @property
    def rule(self) -> TopkRule:
        return TopkRule(score="softmax", renormalise=True)


def growing_k(step: int, steps: int, *, first: int, experts: int) -> int:
    """Return K at a step of training: from ``first`` it grows linearly to all experts at the last of ``steps``.

    Raises:
        ValueError: when the step is not one of the training, or ``first`` is no number of experts.
    """
    if not 1 <= first <= experts:
        raise ValueError(f"first = {first} of {experts} experts: give between 1 and {experts}")
    if not 0 <= step < steps:
        raise ValueError(f"step = {step} of {steps} steps: give between 0 and {steps - 1}")
    return first if steps == 1 else first + (experts - first) * step // (steps - 1)


router = FixedRandom
