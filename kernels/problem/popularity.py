"""Expected choices of a token under a load, computed without a list of tokens.

A synthetic load draws K distinct experts by Gumbel top-k, which is the same as a race: expert e arrives after an
exponential time of rate exp(logit_e), and the first K are chosen (Plackett and Luce; Kool et al. 2019, section 2.3). A
token misses a group of experts when K others arrive before the first of the group.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from .load import Load
from .problem import Problem
from .router import Router
from .texts.hashed_experts import novel_experts
from .topk_rule import GroupedTopk

Floats = NDArray[np.float64]
Owners = NDArray[np.int64]
"""The group of every expert, (E,); groups are numbered from 0, and each has an expert."""

FAR = 30.0  # an expert this far in log-popularity from the K-th is chosen always or never, up to 1e-13
EARLIEST = 1e-9  # no expert has arrived by this time, in units of the time that the first one takes
LATEST = 40.0  # experts with the K-th's rate or more have arrived by this time, up to exp(-40)
SAMPLED = 4096  # tokens: the share of an expert that is chosen by 1 in 32 is known to about 9 %
STEP = 0.25  # in the logarithm of time; the trapezoidal rule's error falls as exp(-pi^2 / STEP)


class Choices(ABC):
    """The choices of one token among E experts, as probabilities."""

    @property
    @abstractmethod
    def included_E(self) -> Floats:
        """The probability that a token chooses each expert, (E,)."""

    @abstractmethod
    def hit(self, owner_E: Owners) -> Floats:
        """Return the probability that a token chooses at least one expert of each group, (groups,)."""


@dataclass(frozen=True)
class Drawn(Choices):
    """Choices under a synthetic load of these log-popularities (E,), −inf for an expert never chosen."""

    logits_E: Floats
    chosen: int

    @cached_property
    def included_E(self) -> Floats:
        return self.hit(np.arange(len(self.logits_E)))

    def hit(self, owner_E: Owners) -> Floats:
        """Integrate over the time t at which the first expert of a group arrives; exact to about 1e-9.

        P(hit) = ∫ Λ exp(−Λt) P(fewer than K of the others by t) dt, with Λ the group's rate. The number of others that
        have arrived is a sum of independent coins: polynomials of degree K − 1 in z, multiplied up from both ends so
        that each group can be left out. All terms are positive, so nothing cancels.
        """
        rate_E = self._rate_E()
        time_S = np.exp(np.arange(math.log(EARLIEST / rate_E.sum()), math.log(LATEST) + STEP, STEP))
        arrived_GKS = _arrivals(rate_E, owner_E, self.chosen, time_S)
        after_GKS = _products(arrived_GKS[::-1])[::-1]
        fewer_GKS = np.cumsum(after_GKS, axis=1)[:, ::-1]  # at place k: fewer than K − k of the groups after
        fewer_GS = np.einsum("gks,gks->gs", _products(arrived_GKS), fewer_GKS)
        progress_GS = np.bincount(owner_E, rate_E)[:, None] * time_S
        hit_G: Floats = STEP * (progress_GS * np.exp(-progress_GS) * fewer_GS).sum(1)
        return hit_G

    def _rate_E(self) -> Floats:
        """Return rates in units of the K-th largest; rates far from it are brought near, which changes no choice."""
        least = np.sort(self.logits_E)[-self.chosen]
        near_E = np.exp(np.clip(self.logits_E - least, -FAR, FAR))
        return np.where(np.isneginf(self.logits_E), 0.0, near_E)


def _arrivals(rate_E: Floats, owner_E: Owners, chosen: int, time_S: Floats) -> Floats:
    """Return the probability that k = 0 … chosen − 1 experts of each group have arrived, (groups, chosen, times)."""
    groups = int(owner_E.max()) + 1
    order_E = np.argsort(owner_E, kind="stable")
    sizes = np.bincount(owner_E, minlength=groups)
    place_E = np.arange(len(owner_E)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    rate_GM = np.zeros((groups, sizes.max()))  # one row for each group, padded with experts that never arrive
    rate_GM[owner_E[order_E], place_E] = rate_E[order_E]
    arrived_GKS = np.zeros((groups, chosen, len(time_S)))
    arrived_GKS[:, 0] = 1.0
    for rate_G in rate_GM.T:
        waited_GS = rate_G[:, None] * time_S
        absent_G1S, present_G1S = np.exp(-waited_GS)[:, None], -np.expm1(-waited_GS)[:, None]
        arrived_GKS[:, 1:] = arrived_GKS[:, 1:] * absent_G1S + arrived_GKS[:, :-1] * present_G1S
        arrived_GKS[:, :1] *= absent_G1S
    return arrived_GKS


def _products(factors_GKS: Floats) -> Floats:
    """Return for each group the product of the polynomials of all groups before it, cut off at the same degree."""
    products_GKS = np.zeros_like(factors_GKS)
    products_GKS[0, 0] = 1.0
    for before_KS, factor_KS, product_KS in zip(products_GKS, factors_GKS, products_GKS[1:], strict=False):
        for k, coefficient_S in enumerate(factor_KS):
            product_KS[k:] += coefficient_S * before_KS[: len(before_KS) - k]
    return products_GKS


@dataclass(frozen=True)
class Tallied(Choices):
    """Choices counted in a list of routes, ids int32 (tokens, K), negative for no route."""

    ids_TK: NDArray[np.int32]
    experts: int

    @cached_property
    def included_E(self) -> Floats:
        return self.hit(np.arange(self.experts))

    def hit(self, owner_E: Owners) -> Floats:
        groups_TK = np.sort(np.where(self.ids_TK < 0, -1, owner_E[self.ids_TK]), axis=1)
        first_TK = np.diff(groups_TK, axis=1, prepend=-1) > 0
        hits_G = np.bincount(groups_TK[first_TK], minlength=int(owner_E.max()) + 1)
        shares: Floats = hits_G / len(self.ids_TK)
        return shares


@dataclass(frozen=True)
class Pooled(Tallied):
    """Choices counted where experts are alike: groups that differ in nothing but numbers share their mean.

    Experts of the same kind are as popular, and the router has so many groups of its own. A maximum over shares that
    are equal but counted each for itself would be far too large.
    """

    kind_E: Owners
    router_groups: int

    def hit(self, owner_E: Owners) -> Floats:
        hit_G = super().hit(owner_E)
        kind_RM = self.kind_E.reshape(self.router_groups, -1)
        whole_R = [tuple(sorted(row)) for row in kind_RM.tolist()]
        parts: list[dict[int, list[int]]] = [{} for _ in hit_G]
        for e, (owner, kind) in enumerate(zip(owner_E.tolist(), self.kind_E.tolist(), strict=True)):
            parts[owner].setdefault(e // kind_RM.shape[1], []).append(kind)
        numbers: dict[object, int] = {}
        alike_G = np.array(
            [
                numbers.setdefault(tuple(sorted((whole_R[r], tuple(sorted(kinds))) for r, kinds in part.items())), g)
                for g, part in enumerate(parts)
            ]
        )
        sums_G = np.bincount(alike_G, hit_G, minlength=len(hit_G))
        shared: Floats = sums_G[alike_G] / np.bincount(alike_G)[alike_G]
        return shared


@dataclass(frozen=True)
class Mixed(Choices):
    """Choices of a token that is of one of several populations, given with their numbers of tokens."""

    parts: tuple[tuple[int, Choices], ...]

    @cached_property
    def included_E(self) -> Floats:
        return self._mean([part.included_E for _, part in self.parts])

    def hit(self, owner_E: Owners) -> Floats:
        return self._mean([part.hit(owner_E) for _, part in self.parts])

    def _mean(self, shares: list[Floats]) -> Floats:
        mean: Floats = np.average(shares, axis=0, weights=[tokens for tokens, _ in self.parts])
        return mean


def choices(problem: Problem) -> Choices:
    """Return what a token of a problem chooses, of the popularity that the problem's routes are drawn with.

    A router that does not follow the load, for its biases or its groups, has no closed form: its choices are counted in
    a sample of `SAMPLED` tokens. Choices of a text or a trace are counted in the whole of it.
    """
    load = Load.parse(problem.load)
    if load.trace is not None:
        return Tallied(load.trace.routes().ids_TK, problem.E)
    router = Router.parse(problem.router)
    if not router.follows_load:
        if isinstance(router, GroupedTopk) and not router.bias and not load.of_text:
            return Pooled(_sampled_ids(problem), problem.E, _kinds_E(problem, load), router.groups)
        return Tallied(_sampled_ids(problem), problem.E)
    if load.of_text:
        return Tallied(novel_experts(problem.E, problem.K, seed=problem.seed), problem.E)
    populations = load.populations(problem.E, max(problem.T, 1), np.random.default_rng(problem.seed))
    parts = [(one.tokens, Drawn(one.logits_E, problem.K)) for one in populations if one.tokens]
    return parts[0][1] if len(parts) == 1 else Mixed(tuple(parts))


def _kinds_E(problem: Problem, load: Load) -> Owners:
    """Return a number for every expert, the same for experts that are as popular with every population."""
    populations = load.populations(problem.E, max(problem.T, 1), np.random.default_rng(problem.seed))
    logits_EP = np.stack([population.logits_E for population in populations], 1)
    kinds_E: Owners = np.unique(logits_EP, axis=0, return_inverse=True)[1].reshape(-1)
    return kinds_E


def _sampled_ids(problem: Problem) -> NDArray[np.int32]:
    """Draw the routes of `SAMPLED` tokens on one rank, always the same ones."""
    import torch  # noqa: PLC0415  # predictions for synthetic loads do without

    from .draw_routes import draw_routes  # noqa: PLC0415  # imports torch

    sample = problem.replace(T=SAMPLED, ranks=1, wire=None)
    ids_TK: NDArray[np.int32] = draw_routes(sample, seed=problem.seed, device=torch.device("cpu")).ids_TK.numpy()
    return ids_TK
