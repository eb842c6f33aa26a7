"""The layer of one rank: what an expert-parallel implementation builds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import metadata
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from ..config import Config
from ..kernel import Kernel
from ..problem import Problem
from ..problem.routing import NO_ROUTE, Routing, within_capacity
from ..problem.tensors import Weights
from ..traffic_counter import TrafficCounter
from .comm_stream import CommStream, stream_for
from .expert_replication import counts_of_all, most_popular, shadows
from .local_experts import LocalExperts, local_problem, numbers, renumbered
from .round_trip import RoundTrip, arrive, depart, go_home, land
from .send_plan import Owners, SendPlan
from .transport import Transport
from .wire_format import Formats

Planner = Callable[[Problem, Routing, Owners, int], SendPlan]


class Disagreement(RuntimeError):
    """The ranks are not about to do the same; the message names a rank and what differs."""


class ParallelLayer:
    """This rank's tokens through the experts of all ranks. All ranks must call it, and its backward, together.

    ``ledger`` counts what this rank has sent since it was built. ``lane`` is where collectives run; another one may
    take its place to watch them.

    Raises:
        Disagreement: at construction, when another rank builds another layer, or with another moebench.
    """

    def __init__(
        self,
        problem: Problem,
        config: Config,
        device: torch.device,
        planner: Planner,
        carrier: Transport,
        local: Kernel,
    ) -> None:
        _agree({"moebench": metadata.version("moebench"), "problem": problem.key, "config": dict(config)})
        self._problem = problem
        self._planner = planner
        self._carrier = carrier
        self._chunks, self._shadows = int(config["chunks"]), int(config["shadows"])
        self._owners = Owners.of(problem)
        first, experts = self._owners.first(carrier.rank), self._owners.experts_R[carrier.rank]
        self._number_E = numbers(torch.arange(first, first + experts, device=device), problem.E)
        rows = problem.tokens_per_rank
        mine = local_problem(problem, rows=rows * problem.K, experts=experts)
        self._experts = LocalExperts(local, mine, device)
        copied = local_problem(problem, rows=rows, experts=max(1, self._shadows))
        self._shadowed = LocalExperts(local, copied, device)
        self.lane: CommStream = stream_for(device, self._chunks)

    @property
    def ledger(self) -> TrafficCounter:
        """What this rank has sent since the layer was built."""
        return self._carrier.ledger

    def __call__(self, x_TD: Tensor, routing: Routing, weights: Weights) -> Tensor:
        capacity = self._problem.capacity
        kept = routing if capacity is None else within_capacity(routing, self._problem.drop, capacity)
        if not self._shadows:
            return self._arrive(*self._depart(x_TD, kept), weights)
        chosen_n = most_popular(counts_of_all(self._carrier, self.lane, kept), self._shadows)
        copies = shadows(self._carrier, self.lane, self._owners, chosen_n, weights)
        number_E = numbers(chosen_n, self._problem.E)
        under_way = self._depart(x_TD, without(kept, number_E))
        # While the others travel.
        y_TD = self._shadowed(x_TD, kept.ids_TK, kept.gates_TK, number_E, copies)
        return y_TD + self._arrive(*under_way, weights)

    def _depart(self, x_TD: Tensor, routing: Routing) -> tuple[RoundTrip, Sequence[Tensor]]:
        plan = self._planner(self._problem, routing, self._owners, self._chunks)
        splits = self._carrier.agree(self.lane, plan.send_CR, x_TD.device)
        self._note(plan, routing)
        call = RoundTrip(self._carrier, self.lane, plan, splits, Formats.of(self._problem, plan.width), x_TD)
        return call, depart(call, x_TD, routing.ids_TK, routing.gates_TK)

    def _arrive(self, call: RoundTrip, tickets: Sequence[Tensor], weights: Weights) -> Tensor:
        landing = []
        for chunk, ticket in enumerate(tickets):
            x_MD, ids_Mk, gates_Mk, back = arrive(call, chunk, ticket)
            y_MD = self._experts(x_MD, ids_Mk, gates_Mk, self._number_E, weights)
            landing.append(go_home(call, chunk, y_MD, back, weights.w_up_EUD))
        return land(call, landing)

    def _note(self, plan: SendPlan, routing: Routing) -> None:
        """Count the rows that leave this rank, and those that would if every route had one."""
        rank = self._carrier.rank
        self.ledger.rows += sum(sum(send_R) - send_R[rank] for send_R in plan.send_CR)
        owner_TK = self._owners.of_routes(routing.ids_TK)
        self.ledger.routes += int(((owner_TK != rank) & (routing.ids_TK != NO_ROUTE)).sum())


def without(routing: Routing, number_E: Tensor) -> Routing:
    """The routes to experts that have no number."""
    numbered_TK = renumbered(routing.ids_TK, number_E) != NO_ROUTE
    ids_TK = torch.where(numbered_TK, NO_ROUTE, routing.ids_TK)
    return Routing(ids_TK=ids_TK, gates_TK=routing.gates_TK, experts=routing.experts)


def _agree(mine: dict[str, Any]) -> None:
    """Raise unless every rank has the same to say."""
    if not dist.is_initialized() or dist.get_world_size() == 1:
        return
    everyone: list[dict[str, Any]] = [{} for _ in range(dist.get_world_size())]
    dist.all_gather_object(everyone, mine)
    for rank, theirs in enumerate(everyone):
        for name, value in theirs.items():
            if value != everyone[0][name]:
                raise Disagreement(
                    f"the ranks disagree on {name}: rank 0 has {everyone[0][name]}, rank {rank} has {value}; "
                    "start all of them with the same arguments and the same installation"
                )
