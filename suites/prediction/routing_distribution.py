"""Distribution of the rows that the tokens of a problem send to the ranks that hold the experts."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import bdtr, bdtrc

from ...kernels.problem import Problem
from ...kernels.problem.popularity import Choices
from .expected_rows import Floats, RowDistribution, totals
from .layout import Layout

RARE = 1e-12  # a probability that counts as zero
MOMENTS = 32  # points in the course of the tokens of a rank at which full experts are looked at


@dataclass(frozen=True, kw_only=True)
class PerToken:
    """Rows that one token sends to each of several places, as sums of choices that add up to a fixed number.

    ``mean_R`` adds up over places. So do ``own_R``, the variance as if all choices were independent, and ``shared_R``,
    the covariance with the number of such independent choices, whose variance is ``total``. Given that there are K, the
    variance is own − shared² / total (conditional Poisson sampling, Hájek 1964): exact for routes to equally popular
    experts, within some per cent of the deviation for others, and never too small for ranks that a token visits.
    """

    mean_R: Floats
    own_R: Floats
    shared_R: Floats
    total: float

    def over(self, group_R: NDArray[np.int64]) -> PerToken:
        """Return the rows to groups of places, given the group of each place."""
        mean_R, own_R, shared_R = (totals(part, group_R) for part in (self.mean_R, self.own_R, self.shared_R))
        return PerToken(mean_R=mean_R, own_R=own_R, shared_R=shared_R, total=self.total)

    def within(self, group_R: NDArray[np.int64]) -> PerToken:
        """Return for each place the rows to all places of its group."""
        of = self.over(group_R)
        mean_R, own_R, shared_R = (part[group_R] for part in (of.mean_R, of.own_R, of.shared_R))
        return PerToken(mean_R=mean_R, own_R=own_R, shared_R=shared_R, total=self.total)

    @property
    def whole(self) -> PerToken:
        """The rows to all places, for each place."""
        return self.within(np.zeros(len(self.mean_R), dtype=np.int64))

    def less(self, part: PerToken) -> PerToken:
        """Return the distribution minus ``part``, per place."""
        return PerToken(
            mean_R=self.mean_R - part.mean_R,
            own_R=self.own_R - part.own_R,
            shared_R=self.shared_R - part.shared_R,
            total=self.total,
        )

    def of(self, tokens: ArrayLike) -> RowDistribution:
        """Return the rows that ``tokens`` tokens send to each place, if they choose independently."""
        together_R = self.shared_R**2 / self.total if self.total > 0 else 0.0
        count_R = np.asarray(tokens, dtype=np.float64)
        return RowDistribution(
            mean_R=count_R * np.maximum(self.mean_R, 0.0), variance_R=count_R * np.maximum(self.own_R - together_R, 0.0)
        )


@dataclass(frozen=True)
class RoutingDistribution:
    """Rows that the tokens of one expert-parallel group send to its ranks, in one of ``chunks`` equal parts of a call.

    With a capacity, the routes of a rank to an expert above C are dropped, whichever chunk they are in.
    """

    problem: Problem
    layout: Layout
    choices: Choices
    chunks: int = 1

    @property
    def tokens(self) -> float:
        """Tokens of one rank in one chunk."""
        return self.everyone / self.layout.ranks

    @property
    def everyone(self) -> float:
        """Tokens of all ranks in one chunk."""
        return self.problem.T / self.chunks

    @cached_property
    def owner_E(self) -> NDArray[np.int64]:
        """The rank of every expert."""
        return self.layout.owner_E(self.problem.E)

    @cached_property
    def kept_E(self) -> Floats:
        """Kept share of the routes of an expert: E[min(n, C)] / E[n], with n binomial over the tokens of a rank."""
        included_E, capacity = self.choices.included_E, self.problem.capacity
        tokens = self.problem.tokens_per_rank
        if capacity is None or not tokens:
            return np.ones_like(included_E)
        expected_E = tokens * included_E
        below_E = expected_E * bdtr(capacity - 1, max(tokens - 1, 0), included_E)
        least_E = below_E + capacity * bdtrc(capacity, tokens, included_E)
        kept_E: Floats = np.divide(least_E, expected_E, out=np.ones_like(least_E), where=expected_E > 0)
        return np.minimum(kept_E, 1.0)

    @cached_property
    def routes(self) -> PerToken:
        """Kept routes of a token to every rank."""
        included_E, kept_E = self.choices.included_E, self.kept_E
        usable = max(2, int((included_E > 0).sum()))
        coin_E = included_E * (1 - included_E) * usable / (usable - 1)  # as without replacement from so many
        mean_E = included_E * kept_E
        own_E = kept_E**2 * coin_E + mean_E * (1 - kept_E)
        mean_R, own_R, shared_R = (totals(part, self.owner_E) for part in (mean_E, own_E, kept_E * coin_E))
        return PerToken(mean_R=mean_R, own_R=own_R, shared_R=shared_R, total=float(coin_E.sum()))

    @cached_property
    def pairs(self) -> PerToken:
        """Number of kept visits of a token to every rank: 1 if it has at least one kept route there, else 0.

        P(miss) is exact without drops. With them an expert is open to the first of a rank's tokens and then full, and
        P(miss) is the power that it would be if the open experts were chosen independently.
        """
        if self.problem.K == 1:
            return self.routes
        missed_R = np.log(np.clip(1 - self.choices.hit(self.owner_E), RARE, 1.0))
        apart_E = np.log1p(-np.minimum(self.choices.included_E, 1 - RARE))
        apart_R = np.minimum(totals(apart_E, self.owner_E), -RARE)
        moments = (np.arange(MOMENTS) + 0.5) / MOMENTS if self.problem.capacity else np.zeros(1)
        open_SR = [totals(np.where(self.kept_E > moment, apart_E, 0.0), self.owner_E) for moment in moments]
        hit_R: Floats = np.mean([-np.expm1(missed_R * open_R / apart_R) for open_R in open_SR], axis=0)
        return PerToken(
            mean_R=hit_R,
            own_R=hit_R * (1 - hit_R),
            shared_R=self.routes.mean_R * (1 - hit_R),
            total=self.routes.total,
        )

    @cached_property
    def touched(self) -> RowDistribution:
        """Average number of experts of every rank that some token chooses."""
        touched_E = 1 - np.clip(1 - self.choices.included_E, 0.0, 1.0) ** self.everyone
        return RowDistribution.fixed(totals(touched_E, self.owner_E))

    @property
    def slots(self) -> int:
        """Number of experts of the fullest rank."""
        return int(np.bincount(self.owner_E).max())

    @property
    def padded(self) -> float | None:
        """Rows that a rank sends to every rank, filled or not: C for each expert there; None when dropless."""
        capacity = self.problem.capacity
        return None if capacity is None else self.slots * capacity / self.chunks
