"""Gate promises: the sentence of a router's docstring on its gates, read as something that can be checked."""

from __future__ import annotations

import re
from dataclasses import dataclass

from torch import Tensor

from moebench.kernels.problem.router import Router

CLAUSE = r"(add up to|is) (at most )?(1|``scale``)"
CONDITION = r" if ``(\w+)``(?: is ``(\w+)``)?"
SENTENCE = re.compile(
    rf"(?:Gates|Each gate) (?:are (any) numbers|{CLAUSE}(?:{CONDITION}, else (?:gates|each) {CLAUSE})?)"
)


@dataclass(frozen=True)
class GatePromise:
    """The sum of a token's gates, or each of them, is ``bound``, or is not negative and at most ``bound``.

    Without a bound nothing is promised.
    """

    of_sum: bool
    at_most: bool
    bound: float | None

    @staticmethod
    def of(router: Router) -> GatePromise:
        """Read the one sentence of the docstring that speaks of all gates.

        Raises:
            ValueError: when the docstring has none, or several.
        """
        text = " ".join((type(router).__doc__ or "").split())
        found = SENTENCE.findall(text)
        if len(found) != 1:
            raise ValueError(f"{type(router).__name__} says {len(found)} times what its gates add up to: say it once")
        unbounded, *clause, parameter, word = found[0][:6]
        if unbounded:
            return GatePromise(of_sum=False, at_most=False, bound=None)
        if parameter:
            given = getattr(router, parameter)
            clause = clause if given == (word or True) else list(found[0][6:])
        subject, at_most, bound = clause
        return GatePromise(
            of_sum=subject == "add up to",
            # The weights of shared experts, which count in the sum, are no gates.
            at_most=bool(at_most) or getattr(router, "shared_experts", 0) > 0,
            bound=1.0 if bound == "1" else float(vars(router)["scale"]),
        )

    def excess(self, gates_TW: Tensor) -> float:
        """Return by how much, as a part of the bound, the gates of chosen experts (0 elsewhere) break the promise."""
        if self.bound is None or not gates_TW.numel():
            return 0.0
        held = gates_TW.double().sum(-1) if self.of_sum else gates_TW.double()
        above = float(held.max()) / self.bound - 1
        below = -float(gates_TW.min()) if self.at_most else 1 - float(held.min()) / self.bound
        return max(above, below, 0.0)
