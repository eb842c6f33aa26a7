"""Guarantees of a kernel: the changes of a call under which a token's result keeps its bits by construction.

``repeat``: the same call again; of a training step the gradients too. ``batch``: the token in a smaller or larger batch
of the same tokens. ``alone``: the token without any other. ``order``: the same tokens in another order. Routes and gate
weights are those of the token in all of them. What is not guaranteed may still be observed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, get_args

InvariantProperty = Literal["repeat", "batch", "alone", "order"]
PROPERTIES: Final[tuple[InvariantProperty, ...]] = get_args(InvariantProperty)


@dataclass(frozen=True)
class Guarantee:
    """The ``properties`` that hold by construction for one problem and configuration, and the ``reason``."""

    properties: frozenset[InvariantProperty]
    reason: str

    @property
    def of_every_batch(self) -> bool:
        """True if a token's result does not depend on the batch that the token is in."""
        return {"batch", "alone", "order"} <= self.properties


NO_GUARANTEE: Final = Guarantee(frozenset(), "")
