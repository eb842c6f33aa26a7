"""Loads: the popularity of each expert, independent of the router, or the recorded choices of a real router.

A synthetic load gives log-popularities; adding Gumbel noise and taking the top k draws k distinct experts per token
with these popularities (the Gumbel top-k trick, Kool et al. 2019, section 2.3), so that every router that takes the
largest logits has this load. A recorded load is a trace (`trace`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from .trace import PREFIX, Trace

PLAIN = ("uniform", "hot")
FORMS = "uniform, zipf:S, dirichlet:A, hot, empty:FRACTION, trace:FILE#DIGEST"
PARAMETERS = {  # open ranges; far beyond those of zipf and dirichlet the float32 logits are not finite
    "zipf": (1e-6, 1e6),
    "dirichlet": (1e-6, 1e6),
    "empty": (0.0, 1.0),
}
HOT_LOGIT = 12.0  # Gumbel noise passes 12 once in 160,000 draws: the hot expert is in practically every top k


@dataclass(frozen=True)
class Load:
    """A load by name, with its parameter (0 where the name takes none), or with its trace if it was recorded."""

    name: str
    parameter: float = 0.0
    trace: Trace | None = None

    @staticmethod
    def parse(spec: str) -> Load:
        """Read ``uniform``, ``zipf:1.2``, ``dirichlet:0.3``, ``hot``, ``empty:0.5`` or ``trace:FILE#DIGEST``.

        Raises:
            ValueError: naming the text and the forms it may take.
        """
        name, colon, text = str(spec).partition(":")
        if name + colon == PREFIX:
            return Load(name, trace=Trace.parse(str(spec)))
        if name not in (PARAMETERS if colon else PLAIN):
            raise ValueError(f"load = {spec!r}: give one of {FORMS}")
        if not colon:
            return Load(name)
        try:
            parameter = float(text)
        except ValueError:
            raise ValueError(f"load = {spec!r}: {text!r} is not a number; give one of {FORMS}") from None
        low, high = PARAMETERS[name]
        if not low < parameter < high:
            raise ValueError(f"load = {spec!r}: give a parameter above {low:g} and below {high:g}")
        return Load(name, parameter)

    def empty_experts(self, experts: int) -> int:
        """Return how many of ``experts`` receive no token by construction."""
        # The parameter counts as the decimal number that it prints as: in binary 0.29 * 100 is less than 29.
        return math.floor(experts * Fraction(str(self.parameter))) if self.name == "empty" else 0

    @property
    def leaves_out(self) -> bool:
        """True if some tokens have fewer routes than others."""
        return self.trace is not None and bool((self.trace.routes().ids_TK < 0).any())

    def check(self, *, experts: int, chosen: int) -> None:
        """Raise ValueError when fewer than ``chosen`` of ``experts`` would stay in use, or a trace does not fit."""
        if self.trace is not None:
            self.trace.check(experts=experts, chosen=chosen)
        left = experts - self.empty_experts(experts)
        if left < chosen:
            raise ValueError(
                f"load = 'empty:{self.parameter:g}' leaves {left} of E = {experts} experts: K = {chosen} do not fit"
            )

    def logits_E(self, experts: int, rng: np.random.Generator) -> NDArray[np.float64]:
        """Draw the log-popularity of each expert up to a constant, shape (E,), −inf for an expert never chosen.

        For a trace all are equal: its experts are not drawn, and the logits only make the gate weights.
        """
        logits = np.zeros(experts)
        if self.name == "zipf":
            logits = -self.parameter * np.log1p(np.arange(experts))
        elif self.name == "dirichlet":
            # Gamma(a) is drawn as Gamma(a + 1) * U^(1/a), whose logarithm does not underflow for small a.
            gammas = np.log(rng.standard_gamma(self.parameter + 1, experts))
            logits = gammas + np.log(rng.uniform(size=experts)) / self.parameter
        elif self.name == "hot":
            logits[0] = HOT_LOGIT
        elif self.name == "empty":
            logits[: self.empty_experts(experts)] = -np.inf
        return rng.permutation(logits)
