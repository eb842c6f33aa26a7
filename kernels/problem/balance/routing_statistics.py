"""Statistics of routes: how uneven they are, what a capacity drops of them, and what they cost in padding."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..problem import Problem
from ..routing import NO_ROUTE, Routing
from ..shard import Shard

TILES = (16, 64, 128)
"""Heights of a tile, in rows: the least of tensor cores, a small one, and that of block-sparse kernels."""


def max_over_mean(counts_E: Tensor) -> float:
    """Return the rows of the fullest expert over the mean, 1 for balanced experts."""
    mean = float(counts_E.float().mean())
    return float(counts_E.max()) / mean if mean else 1.0


def gini(counts_E: Tensor) -> float:
    """Return the Gini coefficient of the experts' rows: 0 if all are equal, 1 − 1/E if one has them all."""
    sorted_E = counts_E.double().sort().values
    experts, total = len(sorted_E), float(sorted_E.sum())
    if not total:
        return 0.0
    rank_E = torch.arange(1, experts + 1, dtype=torch.float64, device=sorted_E.device)
    return float((2 * rank_E - experts - 1) @ sorted_E) / (experts * total)


def padding(counts_E: Tensor, tile: int) -> float:
    """Return the rows added when every expert's rows are padded to a multiple of ``tile``, over the rows."""
    rows = int(counts_E.sum())
    return (int((-(-counts_E // tile) * tile).sum()) - rows) / rows if rows else 0.0


def importance_E(routing: Routing) -> Tensor:
    """Return the summed gate weights of every expert, float32 (E,)."""
    present_TK = routing.ids_TK != NO_ROUTE
    return torch.zeros(routing.experts, device=routing.ids_TK.device).index_put_(
        (routing.ids_TK[present_TK].long(),), routing.gates_TK.detach()[present_TK], accumulate=True
    )


def dropped_gates(routed: Routing, kept: Routing) -> float:
    """Return the gate weight of dropped routes over that of all: what dropping takes from the output."""
    present_TK = routed.ids_TK != NO_ROUTE
    gates_TK = routed.gates_TK.detach().double().abs()
    total = float(gates_TK[present_TK].sum())
    return float(gates_TK[present_TK & (kept.ids_TK == NO_ROUTE)].sum()) / total if total else 0.0


def sufficient_capacity_factor(problem: Problem, routed: Routing) -> float:
    """Return the capacity factor above which no expert of any rank would have dropped a row: most rows · E / (T K).

    T are the tokens of the fullest rank, as `Problem.capacity` counts them; without tokens it is 0.
    """
    rows = problem.tokens_per_rank * problem.K
    return max(_fullest_of_ranks(problem, routed)) * problem.E / rows if rows else 0.0


def _fullest_of_ranks(problem: Problem, routed: Routing) -> Sequence[int]:
    shards = (Shard.of(problem, rank).tokens for rank in range(problem.ranks))
    parts = (
        Routing(ids_TK=routed.ids_TK[tokens], gates_TK=routed.gates_TK[tokens], experts=routed.experts)
        for tokens in shards
    )
    return [int(part.counts_E().max()) for part in parts]
