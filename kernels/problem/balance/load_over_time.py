"""Load of a trace over time: how many rows each expert had in consecutive parts of the recorded tokens."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..traces.trace_format import LayerRoutes


@dataclass(frozen=True, kw_only=True, eq=False)
class LayerLoad:
    """Load of one layer: rows of every expert in every part, int64 (parts, E), and how many routes were absent.

    Where the file does not say how many experts there are, they are those up to the highest id.
    """

    counts_PE: NDArray[np.int64]
    chosen: int
    tokens: int
    absent: int

    @property
    def counts_E(self) -> NDArray[np.int64]:
        """Rows of every expert in all parts."""
        counts_E: NDArray[np.int64] = self.counts_PE.sum(0)
        return counts_E

    @property
    def dead(self) -> int:
        """Experts that no token chose."""
        return int((self.counts_E == 0).sum())

    def relative_PE(self) -> NDArray[np.float64]:
        """Return the rows of every expert in every part over the mean of the part, 1 for balanced experts."""
        mean_P1 = self.counts_PE.mean(1, keepdims=True)
        return self.counts_PE / np.where(mean_P1 == 0, 1, mean_P1)


def load_over_time(routes: LayerRoutes, parts: int) -> LayerLoad:
    """Count the rows of every expert in ``parts`` parts of the tokens of equal length, at most one a token."""
    ids_TK = routes.ids_TK
    tokens, chosen = ids_TK.shape
    parts = min(parts, tokens)
    experts = routes.layer.experts or max(int(ids_TK.max()) + 1, 1)
    part_T = np.arange(tokens) * parts // tokens
    flat_TK = np.where(ids_TK < 0, -1, part_T[:, None] * experts + ids_TK)
    counts = np.bincount(flat_TK[flat_TK >= 0], minlength=parts * experts)
    return LayerLoad(
        counts_PE=counts.reshape(parts, experts), chosen=chosen, tokens=tokens, absent=int((ids_TK < 0).sum())
    )
