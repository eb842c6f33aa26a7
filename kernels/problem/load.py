"""Loads: the popularity of each expert, independent of the router, a real text, or a real router's recorded choices.

A synthetic load gives log-popularities; adding Gumbel noise and taking the top k draws k distinct experts per token
with these popularities (the Gumbel top-k trick, Kool et al. 2019, section 2.3), so that every router that takes the
largest logits has this load. The load ``text`` has the tokens of a novel in their order, with logits by hashing their
ids (`texts`). A recorded load is a trace (`trace`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from .texts.novel import novel_ids
from .trace import PREFIX, Trace

PLAIN = ("uniform", "hot", "text")
FORMS = "uniform, zipf:S, dirichlet:A, hot, empty:FRACTION, modalities:SHARE, text, trace:FILE#DIGEST"
PARAMETERS = {  # open ranges; far beyond those of zipf and dirichlet the float32 logits are not finite
    "zipf": (1e-6, 1e6),
    "dirichlet": (1e-6, 1e6),
    "empty": (0.0, 1.0),
    "modalities": (0.0, 1.0),
}
HOT_LOGIT = 12.0  # Gumbel noise passes 12 once in 160,000 draws: the hot expert is in practically every top k
MODALITY_CONCENTRATION = 0.3  # of the Dirichlet law by which each of two modalities prefers experts of its own


@dataclass(frozen=True, eq=False)
class Population:
    """Consecutive tokens with one popularity of the experts: log-popularities (E,), −inf for an expert never chosen."""

    tokens: int
    logits_E: NDArray[np.float64]


@dataclass(frozen=True)
class Load:
    """A load by name, with its parameter (0 where the name takes none), or with its trace if it was recorded."""

    name: str
    parameter: float = 0.0
    trace: Trace | None = None

    @staticmethod
    def parse(spec: str) -> Load:
        """Read a text such as ``uniform``, ``zipf:1.2``, ``empty:0.5`` or ``trace:FILE#DIGEST``; FORMS has them all.

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

    @property
    def of_text(self) -> bool:
        """True if the tokens are those of the built-in text."""
        return self.name == "text"

    @property
    def recorded_tokens(self) -> int | None:
        """Tokens after which a trace or the text begins anew; None for a load without an end."""
        if self.trace is not None:
            return len(self.trace.routes().ids_TK)
        return len(novel_ids()) if self.of_text else None

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

    def populations(self, experts: int, tokens: int, rng: np.random.Generator) -> tuple[Population, ...]:
        """Draw the populations that so many tokens consist of, in their order; most loads have one.

        ``modalities:SHARE`` has two, of which the first has that share of the tokens, rounded half up, and each draws a
        popularity of its own by Dirichlet(0.3): tokens of images and of text prefer different experts, each unevenly
        (LIMoE, Mustafa et al. 2022). For a trace and a text all experts are equal: they are not drawn.
        """
        if self.name != "modalities":
            return (Population(tokens, self._logits_E(experts, rng)),)
        first = math.floor(tokens * Fraction(str(self.parameter)) + Fraction(1, 2))
        preference = Load("dirichlet", MODALITY_CONCENTRATION)
        return tuple(Population(size, preference._logits_E(experts, rng)) for size in (first, tokens - first))

    def _logits_E(self, experts: int, rng: np.random.Generator) -> NDArray[np.float64]:
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
