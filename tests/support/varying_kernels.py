"""Kernels whose bits depend on the batch in known ways, some with a false guarantee; importing registers them."""

from __future__ import annotations

import itertools

import torch
from faulty_kernels import FAULTY, LOOP, Faulty
from torch import Tensor

from moebench.kernels.config import Config
from moebench.kernels.guarantee import PROPERTIES, Guarantee
from moebench.kernels.kernel import Layer
from moebench.kernels.problem import Problem
from moebench.kernels.problem.routing import Routing
from moebench.kernels.problem.tensors import Weights

NTH = 5  # the token that differs


def nudged(y_TD: Tensor, row: int) -> Tensor:
    """Return y with one element moved to the next number."""
    y_TD = y_TD.clone()
    y_TD[row, 0] = torch.nextafter(y_TD[row, 0], torch.tensor(torch.inf))
    return y_TD


class RowByRow(Faulty):
    """Kernel that computes every token by itself, and so is invariant."""

    def build(self, problem: Problem, config: Config, device: torch.device) -> Layer:
        one = LOOP.build(problem.replace(T=1, capacity_factor=None), config, device)

        def layer(x_TD: Tensor, routing: Routing, weights: Weights) -> Tensor:
            def row(t: int) -> Tensor:
                ids_1K, gates_1K = routing.ids_TK[t : t + 1], routing.gates_TK[t : t + 1]
                alone = Routing(ids_TK=ids_1K, gates_TK=gates_1K, experts=routing.experts)
                return one(x_TD[t : t + 1], alone, weights)

            return self.changed(torch.cat([x_TD[:0], *map(row, range(len(x_TD)))]), problem)

        return layer

    def changed(self, y_TD: Tensor, problem: Problem) -> Tensor:
        """Return y with the dependence in it."""
        return y_TD


class ClaimsTruly(RowByRow):
    """Invariant kernel that guarantees it."""

    def guarantee(self, problem: Problem, config: Config) -> Guarantee:
        return Guarantee(frozenset(PROPERTIES), "each token is computed by itself")


class DependsOnPlace(RowByRow):
    """Kernel whose row of index NTH has another last bit, whichever token it is."""

    def changed(self, y_TD: Tensor, problem: Problem) -> Tensor:
        return nudged(y_TD, NTH) if len(y_TD) > NTH else y_TD


class DependsOnSize(RowByRow):
    """Kernel whose token NTH has another last bit in the largest batch."""

    def changed(self, y_TD: Tensor, problem: Problem) -> Tensor:
        return nudged(y_TD, NTH) if len(y_TD) == 64 else y_TD


class LiesOnSize(DependsOnSize):
    """The same with a guarantee that it breaks."""

    guarantee = ClaimsTruly.guarantee


class DependsOnRun(RowByRow):
    """Kernel whose token NTH has another last bit in every second call of a layer."""

    def build(self, problem: Problem, config: Config, device: torch.device) -> Layer:
        correct, calls = super().build(problem, config, device), itertools.count()

        def layer(x_TD: Tensor, routing: Routing, weights: Weights) -> Tensor:
            y_TD = correct(x_TD, routing, weights)
            return nudged(y_TD, NTH) if next(calls) % 2 and len(y_TD) > NTH else y_TD

        return layer


class RaisesOnOneToken(RowByRow):
    """Kernel that takes every batch but that of one token."""

    def changed(self, y_TD: Tensor, problem: Problem) -> Tensor:
        if len(y_TD) == 1:
            raise RuntimeError("one is too few")
        return y_TD


KERNELS = (ClaimsTruly, DependsOnPlace, DependsOnSize, LiesOnSize, DependsOnRun, RaisesOnOneToken, RowByRow)
FAULTY.update({kind.__name__: kind() for kind in KERNELS})
