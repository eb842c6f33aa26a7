"""The layer of one rank, which an expert-parallel implementation builds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import metadata
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from ..config import Config
from ..instruments.stage import stage
from ..kernel import Kernel
from ..problem import Problem
from ..problem.routing import NO_ROUTE, Routing, within_capacity
from ..problem.tensors import Weights
from ..traffic_counter import TrafficCounter
from .comm_stream import CommStream, stream_for
from .expert_replication import copy_experts, gather_counts, most_popular
from .local_experts import LocalExperts, local_numbers, local_problem, renumbered
from .round_trip import RoundTrip, finish_combine, finish_dispatch, start_combine, start_dispatch
from .send_plan import Owners, SendPlan
from .transport import Transport
from .wire_format import Formats

Planner = Callable[[Problem, Routing, Owners, int], SendPlan]


class Disagreement(RuntimeError):
    """The ranks build different layers; the message names a rank and what differs."""


class ParallelLayer:
    """One rank's layer: its tokens go through the experts of all ranks.

    All ranks must call it, and its backward, together. ``traffic`` counts what this rank has sent since the layer was
    built. Collectives run on ``comm_stream``; another stream may take its place to time them.

    Raises:
        Disagreement: at construction, when another rank builds another layer, or with another moebench.
    """

    def __init__(
        self,
        problem: Problem,
        config: Config,
        device: torch.device,
        planner: Planner,
        transport: Transport,
        local: Kernel,
    ) -> None:
        _agree({"moebench": metadata.version("moebench"), "problem": problem.key, "config": dict(config)})
        self._problem = problem
        self._planner = planner
        self._transport = transport
        self._chunks, self._shadows = int(config["chunks"]), int(config["shadows"])
        self._owners = Owners.of(problem)
        first, experts = self._owners.first(transport.rank), self._owners.experts_R[transport.rank]
        self._number_E = local_numbers(torch.arange(first, first + experts, device=device), problem.E)
        rows = problem.tokens_per_rank
        mine = local_problem(problem, rows=rows * problem.K, experts=experts)
        self._experts = LocalExperts(local, mine, device)
        copied = local_problem(problem, rows=rows, experts=max(1, self._shadows))
        self._shadowed = LocalExperts(local, copied, device)
        self.comm_stream: CommStream = stream_for(device, self._chunks)

    @property
    def traffic(self) -> TrafficCounter:
        """Return what this rank has sent since the layer was built."""
        return self._transport.traffic

    def __call__(self, x_TD: Tensor, routing: Routing, weights: Weights) -> Tensor:
        capacity = self._problem.capacity
        with stage("dispatch"):
            kept = routing if capacity is None else within_capacity(routing, self._problem.drop, capacity)
        if not self._shadows:
            return self._arrive(*self._depart(x_TD, kept), weights)
        with stage("dispatch"):
            chosen_n = most_popular(gather_counts(self._transport, self.comm_stream, kept), self._shadows)
            copies = copy_experts(self._transport, self.comm_stream, self._owners, chosen_n, weights)
            number_E = local_numbers(chosen_n, self._problem.E)
            left = without(kept, number_E)
        under_way = self._depart(x_TD, left)
        # Computed while the other tokens are sent.
        y_TD = self._shadowed(x_TD, kept.ids_TK, kept.gates_TK, number_E, copies)
        others_TD = self._arrive(*under_way, weights)
        with stage("combine"):
            return y_TD + others_TD

    def _depart(self, x_TD: Tensor, routing: Routing) -> tuple[RoundTrip, Sequence[Tensor]]:
        with stage("dispatch"):
            plan = self._planner(self._problem, routing, self._owners, self._chunks)
            splits = self._transport.exchange_counts(self.comm_stream, plan.send_CR, x_TD.device)
            self._note(plan, routing)
            formats = Formats.of(self._problem, plan.width)
            call = RoundTrip(self._transport, self.comm_stream, plan, splits, formats, x_TD)
            return call, start_dispatch(call, x_TD, routing.ids_TK, routing.gates_TK)

    def _arrive(self, call: RoundTrip, tickets: Sequence[Tensor], weights: Weights) -> Tensor:
        landing = []
        for chunk, ticket in enumerate(tickets):
            with stage("dispatch"):
                x_MD, ids_Mk, gates_Mk, back = finish_dispatch(call, chunk, ticket)
            y_MD = self._experts(x_MD, ids_Mk, gates_Mk, self._number_E, weights)
            with stage("combine"):
                landing.append(start_combine(call, chunk, y_MD, back, weights.w_up_EUD))
        with stage("combine"):
            return finish_combine(call, landing)

    def _note(self, plan: SendPlan, routing: Routing) -> None:
        """Count the rows that leave this rank, and those that would if every route had one."""
        rank = self._transport.rank
        self.traffic.rows += sum(sum(send_R) - send_R[rank] for send_R in plan.send_CR)
        owner_TK = self._owners.of_routes(routing.ids_TK)
        self.traffic.routes += int(((owner_TK != rank) & (routing.ids_TK != NO_ROUTE)).sum())


def without(routing: Routing, number_E: Tensor) -> Routing:
    """Return the routes to experts that have no number."""
    numbered_TK = renumbered(routing.ids_TK, number_E) != NO_ROUTE
    ids_TK = torch.where(numbered_TK, NO_ROUTE, routing.ids_TK)
    return Routing(ids_TK=ids_TK, gates_TK=routing.gates_TK, experts=routing.experts)


def _agree(mine: dict[str, Any]) -> None:
    """Raise `Disagreement` unless all ranks have the same values."""
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
