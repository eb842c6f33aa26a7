"""Rows of every expert, all that a cost model takes of a routing: counted, or expected of a layer without routes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from statistics import NormalDist

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..problem import Problem
from ..problem.balance.sorted_shares import expected_shares
from ..problem.draw_routes import draw_routes
from ..problem.load import Load
from ..problem.router import Router
from ..problem.routing import Routing, within_capacity

SEED = 1  # of routes that are drawn because their load has no closed form


@dataclass(frozen=True, kw_only=True)
class ExpectedRouting(Routing):
    """Rows that experts are expected to have. It has no tokens, so it is for a cost model only."""

    rows: tuple[int, ...]

    @staticmethod
    def of(problem: Problem, rows: Sequence[int]) -> ExpectedRouting:
        """Return the routing in which the experts have these rows, up to the capacity."""
        kept = rows if problem.capacity is None else (min(count, problem.capacity) for count in rows)
        return ExpectedRouting(
            ids_TK=torch.empty(0, problem.K, dtype=torch.int32),
            gates_TK=torch.empty(0, problem.K),
            experts=problem.E,
            rows=tuple(kept),
        )

    def counts_E(self) -> Tensor:
        return torch.tensor(self.rows)


@lru_cache(maxsize=4)  # the same routing is asked for every configuration; it is read from its device once
def rows_of_experts(routing: Routing) -> tuple[int, ...]:
    """Return the rows that each expert receives."""
    return routing.rows if isinstance(routing, ExpectedRouting) else tuple(routing.counts_E().tolist())


def expected_routing(problem: Problem) -> Routing:
    """Return a routing with the rows to expect, without those dropped.

    Under the uniform load the rows of an expert are binomial: they are the quantiles of the normal distribution next to
    it, so that the fullest expert has the rows that it has on average. Under another load they follow its popularity
    (`expected_shares`). Routes are drawn where tokens depend on each other, or the router does not follow the load.
    """
    if problem.load == "uniform":
        return ExpectedRouting.of(problem, _uniform(problem))
    if Load.parse(problem.load).recorded_tokens is None and Router.parse(problem.router).follows_load:
        return ExpectedRouting.of(problem, _popular(problem))
    routing = draw_routes(problem, seed=SEED, device=torch.device("cpu"))
    return routing if problem.capacity is None else within_capacity(routing, problem.drop, problem.capacity)


def skewed_routing(problem: Problem, fullest: int) -> ExpectedRouting:
    """Return a routing of which one expert has ``fullest`` rows, and the others equally many of the rest."""
    others, rest = max(1, problem.E - 1), problem.N - fullest
    rows = [rest // others + (number < rest % others) for number in range(problem.E - 1)]
    return ExpectedRouting.of(problem, [fullest, *rows])


def _popular(problem: Problem) -> list[int]:
    shares_E = expected_shares(problem.load, E=problem.E, K=problem.K, tokens=problem.T, seed=problem.seed)
    return _whole(problem, problem.N * shares_E)


def _uniform(problem: Problem) -> list[int]:
    mean = problem.N / problem.E
    deviation = (mean * (1 - problem.K / problem.E)) ** 0.5
    return _whole(problem, mean + deviation * _quantiles(problem.E))


def _whole(problem: Problem, expected_E: NDArray[np.float64]) -> list[int]:
    """Round to rows that add up to N, none above T; what rounding lacks goes to experts near the mean."""
    mean = problem.N / problem.E
    rows = np.rint(np.clip(expected_E, 0, problem.T)).astype(np.int64)
    near = np.argsort(np.abs(rows - mean), kind="stable")
    while missing := problem.N - int(rows.sum()):
        able = near[rows[near] < problem.T] if missing > 0 else near[rows[near] > 0]
        rows[able[: abs(missing)]] += 1 if missing > 0 else -1
    found: list[int] = rows.tolist()
    return found


@lru_cache(maxsize=64)
def _quantiles(experts: int) -> NDArray[np.float64]:
    normal = NormalDist()
    return np.array([normal.inv_cdf((expert + 0.5) / experts) for expert in range(experts)])
