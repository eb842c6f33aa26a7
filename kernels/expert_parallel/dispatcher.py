"""The base class of expert-parallel implementations: everything but the copies of rows and their transport."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from itertools import product

import torch
import torch.distributed as dist

from ..catalog import KERNELS
from ..config import Config
from ..kernel import Cost, Kernel, Layer
from ..problem import Problem
from ..problem.routing import Routing
from .local_experts import candidates, local_numbers, local_problem, renumbered
from .parallel_layer import ParallelLayer, Planner
from .planned_traffic import TrafficModel
from .send_plan import Owners
from .transport import Transport
from .wire_format import Formats

CHUNKS = (1, 2, 4, 8)
SHADOWS = (0, 1, 2, 4)


@dataclass(frozen=True, kw_only=True)
class DispatcherForm:
    """The parts of a dispatcher: the plan of rows, their transport, and a model of its traffic."""

    planner: Planner
    transport: type[Transport]
    traffic_model: TrafficModel


class ExpertParallel(Kernel):
    """A dispatcher. Each rank calls its layer with its share of the inputs (`Inputs.shard`), all ranks together.

    A configuration names the implementation that multiplies (``local``), in how many ``chunks`` rows travel while
    others are multiplied, and of how many of the most popular experts every rank gets a copy (``shadows``).
    """

    family = "expert_parallel"
    between_ranks = True
    drops = True
    adds_biases = True
    takes_scales = True

    @abstractmethod
    def form(self, problem: Problem) -> DispatcherForm:
        """Return the plan, transport and traffic model of this implementation for a problem."""

    def supports(self, problem: Problem, device: torch.device) -> str | None:
        if not dist.is_available():
            return "this build of torch has no torch.distributed; install one that does"
        refusals = [self._refusal(name, problem, device) for name in candidates(device)]
        return None if None in refusals else refusals[0]

    def space(self, problem: Problem, device: torch.device) -> list[Config]:
        """Return all choices of chunks, copied experts and local kernel; one rank has neither chunks nor copies."""
        names = [name for name in candidates(device) if self._refusal(name, problem, device) is None]
        alone = problem.ranks == 1
        axes = (SHADOWS[:1] if alone else SHADOWS, CHUNKS[:1] if alone else CHUNKS, names)
        return [{"local": local, "chunks": chunks, "shadows": shadows} for shadows, chunks, local in product(*axes)]

    def fault(self, problem: Problem, config: Config, device: torch.device) -> str | None:
        chunks, shadows = int(config["chunks"]), int(config["shadows"])
        if chunks > max(1, problem.tokens_per_rank):
            return f"a rank has {problem.tokens_per_rank} tokens: they do not fill chunks = {chunks}"
        if shadows > problem.E:
            return f"there are E = {problem.E} experts, fewer than shadows = {shadows}"
        return self._refusal(str(config["local"]), problem, device)

    def build(self, problem: Problem, config: Config, device: torch.device) -> Layer:
        """Build the layer of this rank.

        Raises:
            RuntimeError: when the default process group has not ``problem.ranks`` ranks, or they disagree.
        """
        form = self.form(problem)
        local = KERNELS.load(str(config["local"]))
        return ParallelLayer(problem, config, device, form.planner, form.transport(problem.ranks), local)

    def cost(self, problem: Problem, config: Config, routing: Routing) -> Cost:
        """Return the cost of all ranks together; ``workspace_bytes`` is that of the rank that needs most."""
        model = self.form(problem).traffic_model
        chunks, shadows = int(config["chunks"]), int(config["shadows"])
        counters = model.count(problem, routing, chunks=chunks, shadows=shadows)
        local = KERNELS.load(str(config["local"]))
        owners = Owners.of(problem)
        executed, workspace = 0, 0
        for rank, experts in enumerate(owners.experts_R):
            first = owners.first(rank)
            number_E = local_numbers(torch.arange(first, first + experts, device=routing.ids_TK.device), problem.E)
            ids_TK = renumbered(routing.ids_TK, number_E)
            mine = local_problem(problem, rows=int((ids_TK >= 0).any(1).sum()), experts=experts)
            theirs = Routing(ids_TK=ids_TK, gates_TK=routing.gates_TK, experts=experts)
            cost = local.cost(mine, local.space(mine, routing.ids_TK.device)[0], theirs)
            executed += cost.executed_rows
            workspace = max(workspace, cost.workspace_bytes)
        rows = model.most_rows(problem, routing)
        formats = Formats.of(problem, model.width(routing))
        workspace += 3 * rows * (formats.token.bytes + formats.plain.bytes)
        return Cost(executed_rows=executed, workspace_bytes=workspace, traffic=counters)

    def _refusal(self, name: str, problem: Problem, device: torch.device) -> str | None:
        """Return None, or why an implementation cannot multiply the largest share of this problem's experts."""
        experts = max(Owners.of(problem).experts_R)
        refusal = KERNELS.load(name).supports(local_problem(problem, rows=problem.N, experts=experts), device)
        return None if refusal is None else f"{name} multiplies, and {refusal}"
