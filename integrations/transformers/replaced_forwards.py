"""Experts of transformers that compute themselves and ask for no implementation: how their forward becomes ours.

The forward of such a class is replaced once, by one that asks each module whether moebench runs it, as the forward of
every other class of experts asks for an implementation. So a module holds nothing but a note that says how it is taken,
which copies and pickles take along, and without which it computes as before.
"""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import Any, ClassVar, cast

from torch import Tensor, nn

from ...kernels.problem import Activation
from ...kernels.problem.tensors import Weights

Apply = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Experts of a module applied to tokens (T, D), ids (T, K) and gate weights (T, K)."""


@dataclass(frozen=True, kw_only=True)
class OwnForward(ABC):
    """Experts of one class as the kernels take them; a subclass tells its weights and what its arguments mean."""

    kind: type[nn.Module]
    activation: Activation
    gated: bool = True
    bias: bool = False

    how: ClassVar[str]
    """Words that say how the weights are taken."""

    @staticmethod
    @abstractmethod
    def of(experts: Any) -> OwnForward:
        """Return what a module computes.

        Raises:
            ValueError: when no kernel here computes it.
        """

    @abstractmethod
    def sizes(self, experts: Any) -> tuple[int, int, int]:
        """Return E, D and F of a module."""

    @abstractmethod
    def weights(self, experts: Any) -> Weights:
        """Return the weights of a module from its attributes as they are now."""

    def runs(self, experts: Any) -> bool:
        """Return whether a kernel computes what the module would compute now; else its own forward runs."""
        return True

    def forward(self, experts: Any, apply: Apply, hidden_states: Tensor, ids: Tensor, gates: Tensor) -> Tensor:
        """Return what the module returns for its arguments."""
        return apply(hidden_states, ids, gates)


def let_forward_ask(kind: type[nn.Module], attribute: str) -> None:
    """Replace the forward of a class, once, by one that gives its arguments to what a module has as ``attribute``."""
    original: Any = kind.forward
    if hasattr(original, attribute):
        return
    signature = inspect.signature(original)

    @wraps(original)
    def forward(self: nn.Module, *arguments: Any, **named: Any) -> Tensor:
        taken: Any = getattr(self, attribute, None)
        if named:
            arguments = signature.bind(self, *arguments, **named).args[1:]
        runs = taken is not None and taken.layout.runs(self)
        return cast(Tensor, taken.forward(self, *arguments) if runs else original(self, *arguments))

    setattr(forward, attribute, True)
    kind.forward = forward
