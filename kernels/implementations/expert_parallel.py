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

from ..activations import activate
from ..dispatch import Places, combine, dispatch
from ..kernel import Config, Cost, Kernel, Layer
from ..problem import ELEMENT_BYTES, Problem
from ..routing import NO_ROUTE, Routing, group_by_expert, queue_positions
from ..shard import Shard, split_evenly
from ..tensors import Weights
from ._exchange import Exchange

COUNT_BYTES = 8  # counts travel as int64


class ExpertParallel(Kernel):
    """Each rank calls its layer with its share of the inputs, `Inputs.shard`; all ranks must call it together.

    The layer's ``sent_bytes`` counts rows, gradients of rows and, when dropless, counts: what this rank has sent to
    other ranks. `Cost.traffic_bytes` is the sum over ranks of one call.
    """

    family = "expert_parallel"

    def supports(self, problem: Problem, device: torch.device) -> str | None:
        return None if dist.is_available() else "this build of torch has no torch.distributed; install one that does"

    def build(self, problem: Problem, config: Config, device: torch.device) -> Layer:
        """The layer of this rank.

        Raises:
            RuntimeError: when the default process group has not ``problem.ranks`` ranks.
        """
        return Uneven(problem) if problem.capacity is None else Even(problem, problem.capacity)

    def cost(self, problem: Problem, routing: Routing) -> Cost:
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
        y_MD = _products(self.problem, x_MD.index_select(0, order_M), counts_RL.sum(0).tolist(), weights)
        y_ND = exchange.rows(y_MD.index_select(0, torch.argsort(order_M)), receive, send)
        return combine(y_ND, routing.gates_TK, places)


class Even(_ExpertParallelLayer):
    """With a capacity: every rank sends C rows to every expert, and as many to each rank as to the one with the most."""

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
        y_MD = _products(self.problem, x_MD, [ranks * capacity] * local, weights)
        return combine(exchange.rows(_swap(y_MD, slots, ranks), split, split), routing.gates_TK, places)


def _products(problem: Problem, rows_MD: Tensor, counts: Sequence[int], weights: Weights) -> Tensor:
    """Each expert on its rows; rows after the last expert's pass as they are.

    They keep a rank without experts in the graph, where its part in the exchanges of backward hangs on.
    """
    *groups, rest = rows_MD.split([*counts, rows_MD.shape[0] - sum(counts)])
    experts = zip(groups, weights.w_up_EUD.unbind(), weights.w_down_EDF.unbind(), strict=True)
    return torch.cat([*(activate(problem, x_nD @ up_UD.T) @ down_DF.T for x_nD, up_UD, down_DF in experts), rest])


def _split(items: Sequence[int], sizes: Sequence[int]) -> list[Sequence[int]]:
    ends = [sum(sizes[: rank + 1]) for rank in range(len(sizes))]
    return [items[end - size : end] for end, size in zip(ends, sizes, strict=True)]


def _swap(rows_MD: Tensor, outer: int, inner: int) -> Tensor:
    """Rows in order (outer, inner, …) to rows in order (inner, outer, …)."""
    return rows_MD.unflatten(0, (outer, inner, -1)).transpose(0, 1).flatten(0, 2)


def _exchanges(problem: Problem) -> int:
    """Dispatch and combine, and in training the mirror of each."""
    return 4 if problem.mode == "train" else 2


def _uneven_cost(problem: Problem, routing: Routing) -> Cost:
    shards = [Shard.of(problem, rank) for rank in range(problem.ranks)]
    rows_RR = torch.tensor(
        [[_rows(routing.ids_TK[source.tokens], target.experts) for target in shards] for source in shards]
    )
    kept, stay = int(rows_RR.sum()), int(rows_RR.diagonal().sum())
    counts = problem.E * (problem.ranks - 1) * COUNT_BYTES
    row_bytes = problem.D * ELEMENT_BYTES[problem.dtype]
    return Cost(
        executed_rows=kept,
        traffic_bytes=_exchanges(problem) * (kept - stay) * row_bytes + counts,
        workspace_bytes=_workspace(problem, int(rows_RR.sum(1).max()), int(rows_RR.sum(0).max())),
    )


def _rows(ids_TK: Tensor, experts: slice) -> int:
    return int(((ids_TK >= experts.start) & (ids_TK < experts.stop)).sum())


def _even_cost(problem: Problem, capacity: int) -> Cost:
    slots = max(split_evenly(problem.E, problem.ranks))
    buffer_rows = problem.ranks * slots * capacity
    to_others = problem.ranks * (problem.ranks - 1) * slots * capacity
    return Cost(
        executed_rows=problem.ranks * problem.E * capacity,
        traffic_bytes=_exchanges(problem) * to_others * problem.D * ELEMENT_BYTES[problem.dtype],
        workspace_bytes=_workspace(problem, buffer_rows, buffer_rows),
    )


def _workspace(problem: Problem, sent: int, received: int) -> int:
    """Rows as they are sent and come back, and as they arrive, sorted, multiplied and put together."""
    element = ELEMENT_BYTES[problem.dtype]
    rows = (sent + 4 * received) * problem.D * element
    hidden = (problem.U + 2 * problem.F) * element
    if problem.mode == "forward":
        return rows + received * hidden // len(split_evenly(problem.E, problem.ranks))
    # Autograd keeps the hidden rows, and stacks the weight gradients of single experts.
    return rows + received * hidden + problem.weight_bytes // problem.ranks


kernel = ExpertParallel()
