"""Expert parallelism: every rank holds some experts and some tokens, and rows travel by all-to-all (GShard, Tutel).

A dropless problem sends the rows there are: counts first, then rows in uneven splits. With a capacity every rank sends
C rows to every expert, in equal splits known beforehand, padded with zeros. Gate weights stay with the tokens.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
import torch.distributed as dist
from torch import Tensor

from ..dispatch import Places, combine, dispatch
from ..kernel import Config, Cost, Kernel, Layer, unbiased, unscaled
from ..problem import ELEMENT_BYTES, Problem
from ..routing import NO_ROUTE, Routing, group_by_expert, queue_positions
from ..shard import Shard, split_evenly
from ..tensors import Weights
from ._exchange import Exchange
from ._experts import expert_products

COUNT_BYTES = 8  # counts travel as int64


class ExpertParallel(Kernel):
    """Each rank calls its layer with its share of the inputs, `Inputs.shard`; all ranks must call it together.

    The layer's ``sent_bytes`` counts rows, gradients of rows and, when dropless, counts: what this rank has sent to
    other ranks. `Cost.traffic_bytes` is the sum over ranks of one call.
    """

    family = "expert_parallel"

    def supports(self, problem: Problem, device: torch.device) -> str | None:
        if not dist.is_available():
            return "this build of torch has no torch.distributed; install one that does"
        return unbiased(problem) or unscaled(problem)

    def build(self, problem: Problem, config: Config, device: torch.device) -> Layer:
        """The layer of this rank.

        Raises:
            RuntimeError: when the default process group has not ``problem.ranks`` ranks.
        """
        return Uneven(problem) if problem.capacity is None else Even(problem, problem.capacity)

    def cost(self, problem: Problem, config: Config, routing: Routing) -> Cost:
        """Of all ranks together, but for ``workspace_bytes``, which is that of the fullest rank."""
        return _even_cost(problem, problem.capacity) if problem.capacity else _uneven_cost(problem, routing)


class _ExpertParallelLayer(ABC):
    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self.exchange = Exchange(problem.ranks)
        self.experts_R = split_evenly(problem.E, problem.ranks)

    @property
    def sent_bytes(self) -> int:
        return self.exchange.sent_bytes

    @abstractmethod
    def __call__(self, x_TD: Tensor, routing: Routing, weights: Weights) -> Tensor: ...


class Uneven(_ExpertParallelLayer):
    """Dropless: every rank sends each other rank as many rows as are routed there."""

    def __call__(self, x_TD: Tensor, routing: Routing, weights: Weights) -> Tensor:
        exchange, ranks, local = self.exchange, self.problem.ranks, weights.w_up_EUD.shape[0]
        groups = group_by_expert(routing)
        rows = groups.route_N.numel()
        row_N = torch.arange(rows, device=x_TD.device)
        places = Places.of(routing, route_n=groups.route_N, row_n=row_N, rows=rows)
        counts_RL = exchange.move(routing.counts_E()[:, None], self.experts_R, [local] * ranks).view(ranks, local)
        send = [sum(part) for part in _split(groups.counts, self.experts_R)]
        receive = counts_RL.sum(1).tolist()
        x_MD = exchange.rows(dispatch(x_TD, places), send, receive)
        # Rows arrive by source rank, and by expert within a source: sort them by expert.
        expert_M = torch.arange(local, device=x_TD.device).repeat(ranks).repeat_interleave(counts_RL.flatten())
        order_M = torch.argsort(expert_M, stable=True)
        y_MD = expert_products(self.problem, x_MD.index_select(0, order_M), counts_RL.sum(0).tolist(), weights)
        y_ND = exchange.rows(y_MD.index_select(0, torch.argsort(order_M)), receive, send)
        return combine(y_ND, routing.gates_TK, places)


class Even(_ExpertParallelLayer):
    """With a capacity: every rank sends C rows to every expert, and as many to every rank as to the fullest."""

    def __init__(self, problem: Problem, capacity: int) -> None:
        super().__init__(problem)
        self.capacity = capacity

    def __call__(self, x_TD: Tensor, routing: Routing, weights: Weights) -> Tensor:
        exchange, ranks, local = self.exchange, self.problem.ranks, weights.w_up_EUD.shape[0]
        slots, capacity = max(self.experts_R), self.capacity
        position_TK = queue_positions(routing, self.problem.drop)
        kept_TK = (routing.ids_TK != NO_ROUTE) & (position_TK < capacity)
        # All ranks but the last are full, so that expert e is the e-th slot counted over all ranks.
        row_n = (routing.ids_TK * capacity + position_TK)[kept_TK]
        route_n = kept_TK.flatten().nonzero()[:, 0]
        places = Places.of(routing, route_n=route_n, row_n=row_n, rows=ranks * slots * capacity)
        split = [slots * capacity] * ranks
        x_MD = _swap(exchange.rows(dispatch(x_TD, places), split, split), ranks, slots)
        y_MD = expert_products(self.problem, x_MD, [ranks * capacity] * local, weights)
        return combine(exchange.rows(_swap(y_MD, slots, ranks), split, split), routing.gates_TK, places)


def _split(items: Sequence[int], sizes: Sequence[int]) -> list[Sequence[int]]:
    ends = [sum(sizes[: rank + 1]) for rank in range(len(sizes))]
    return [items[end - size : end] for end, size in zip(ends, sizes, strict=True)]


def _swap(rows_MD: Tensor, outer: int, inner: int) -> Tensor:
    """Rows in order (outer, inner, …) to rows in order (inner, outer, …)."""
    return rows_MD.view(outer, inner, -1, rows_MD.shape[1]).transpose(0, 1).flatten(0, 2)


def _exchanges(problem: Problem) -> int:
    """Dispatch and combine, and in training the mirror of each."""
    return 4 if problem.mode == "train" else 2


def _uneven_cost(problem: Problem, routing: Routing) -> Cost:
    shards = [Shard.of(problem, rank) for rank in range(problem.ranks)]
    rows_RE = torch.stack([_counts_E(routing.ids_TK[shard.tokens], problem.E) for shard in shards])
    rows_RR = torch.stack([rows_RE[:, shard.experts].sum(1) for shard in shards], dim=1)
    travelling = int(rows_RR.sum() - rows_RR.diagonal().sum())
    count_bytes = problem.E * (problem.ranks - 1) * COUNT_BYTES
    return Cost(
        executed_rows=int(rows_RR.sum()),
        traffic_bytes=_exchanges(problem) * travelling * _row_bytes(problem) + count_bytes,
        workspace_bytes=_workspace(
            problem,
            sent=int(rows_RR.sum(1).max()),
            received=int(rows_RR.sum(0).max()),
            fullest=int(rows_RE.sum(0).max()),
        ),
    )


def _counts_E(ids_TK: Tensor, experts: int) -> Tensor:
    return torch.bincount(ids_TK[ids_TK != NO_ROUTE], minlength=experts)


def _even_cost(problem: Problem, capacity: int) -> Cost:
    buffer = problem.ranks * max(split_evenly(problem.E, problem.ranks)) * capacity
    travelling = (problem.ranks - 1) * buffer
    return Cost(
        executed_rows=problem.ranks * problem.E * capacity,
        traffic_bytes=_exchanges(problem) * travelling * _row_bytes(problem),
        workspace_bytes=_workspace(problem, sent=buffer, received=buffer, fullest=problem.ranks * capacity),
    )


def _row_bytes(problem: Problem) -> int:
    return problem.D * ELEMENT_BYTES[problem.dtype]


def _workspace(problem: Problem, *, sent: int, received: int, fullest: int) -> int:
    """Received rows are there thrice: as they came, in expert order, multiplied; in training as dy, x and dx.

    The hidden rows live for one expert at a time, but for the pre-activations that training keeps.
    """
    D, U, F = problem.D, problem.U, problem.F
    if problem.mode == "forward":
        elements = 3 * received * D + max(sent * D, fullest * (U + 2 * F))
    else:
        elements = 3 * received * D + received * U + sent * D + fullest * (U + 4 * F)
    return elements * ELEMENT_BYTES[problem.dtype]


kernel = ExpertParallel()
