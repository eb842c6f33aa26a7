"""Every dispatcher against the reference, in real processes over gloo: outputs, all gradients, and what was sent."""

from __future__ import annotations

import dataclasses
import json
import multiprocessing
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist

from moebench.execution.trial.checks.accuracy import errors, verdict
from moebench.execution.trial.reference_check import call
from moebench.kernels.catalog import KERNELS
from moebench.kernels.config import Config
from moebench.kernels.expert_parallel.communicates import Communicates
from moebench.kernels.expert_parallel.parallel_layer import Disagreement
from moebench.kernels.oracle import Result, reference
from moebench.kernels.problem import Problem
from moebench.kernels.problem.routing import NO_ROUTE, Routing, within_capacity
from moebench.kernels.problem.shard import Shard
from moebench.kernels.problem.tensors import Inputs, draw_inputs, draw_weights
from moebench.kernels.traffic_counter import TrafficCounter
from moebench.results.record import Error

CPU = torch.device("cpu")
NAMES = tuple(name for name in KERNELS.names() if KERNELS.load(name).between_ranks)
PLACES = {1: 1, 2: 1, 3: 3, 4: 2}  # ranks, and how many of them share a node
COLLECTIVE_SECONDS = 30  # a rank that waits longer for the others gives up
GROUP_SECONDS = 200  # a group that takes longer is killed

TRAIN = Problem(T=37, D=12, F=8, E=9, K=3, mode="train")
DROPPING = TRAIN.replace(capacity_factor=0.7)


@dataclass(frozen=True)
class Case:
    """A problem for all ranks together, a configuration, and the tokens of each rank where they are not even."""

    problem: Problem
    config: Config = dataclasses.field(default_factory=dict)
    tokens: tuple[int, ...] = ()
    routes: bool = True
    twice: bool = False

    def tokens_of(self, rank: int, ranks: int) -> slice:
        """Return the tokens that a rank holds."""
        if not self.tokens:
            return Shard.of(self.problem.replace(ranks=ranks, wire=None), rank).tokens
        start = sum(self.tokens[:rank])
        return slice(start, start + self.tokens[rank] if rank < ranks - 1 else self.problem.T)


CASES = {
    "dropless": Case(TRAIN),
    "not gated": Case(TRAIN.replace(gated=False, activation="gelu")),
    "biases": Case(TRAIN.replace(bias=True), {"local": "loop"}),
    "one hot expert": Case(TRAIN.replace(load="hot")),
    "unused experts": Case(TRAIN.replace(load="empty:0.6")),
    "one expert each": Case(TRAIN.replace(E=4)),
    "experts that do not divide": Case(TRAIN.replace(E=5)),
    "ranks without tokens": Case(TRAIN.replace(T=2)),
    "no tokens": Case(TRAIN.replace(T=0)),
    "no routes": Case(TRAIN, routes=False),
    "uneven tokens": Case(TRAIN, tokens=(5, 0, 21, 11)),
    "tokens on the last rank": Case(TRAIN, tokens=(0, 0, 0, 37)),
    "an expert twice": Case(TRAIN.replace(E=4), twice=True),
    "an expert twice, dropping": Case(DROPPING.replace(E=4, drop="gate_weight"), twice=True),
    "an expert twice, shadows": Case(TRAIN.replace(E=4, load="hot"), {"shadows": 1}, twice=True),
    "one route": Case(TRAIN.replace(K=1, router="switch")),
    "routed in groups": Case(TRAIN.replace(E=8, router="sigmoid_topk:groups=4,top_groups=2,scale=2.5")),
    "forward": Case(TRAIN.replace(mode="forward")),
    "bfloat16": Case(TRAIN.replace(dtype="bfloat16", D=40)),
    "quantised": Case(TRAIN.replace(dtype="float8_e4m3fn", mode="forward", D=40), {"local": "loop"}),
    "dropping": Case(DROPPING),
    "dropping by gate weight": Case(DROPPING.replace(drop="gate_weight")),
    "dropping of one hot expert": Case(DROPPING.replace(capacity_factor=0.3, drop="gate_weight", load="hot")),
    "dropping, experts that do not divide": Case(DROPPING.replace(E=5)),
    "dropping, ranks without tokens": Case(DROPPING.replace(T=2)),
    "dropping, no tokens": Case(DROPPING.replace(T=0)),
    "dropping, no routes": Case(DROPPING, routes=False),
    "dropping, uneven tokens": Case(DROPPING, tokens=(5, 0, 9, 23)),
    "dropping, forward": Case(DROPPING.replace(mode="forward")),
    "roomy": Case(TRAIN.replace(capacity_factor=4.0)),
    "chunks": Case(TRAIN, {"chunks": 4}),
    "chunks, forward": Case(TRAIN.replace(mode="forward"), {"chunks": 8}),
    "chunks, dropping": Case(DROPPING, {"chunks": 4}),
    "chunks, dropping, capacity of less": Case(DROPPING.replace(capacity_factor=0.1), {"chunks": 4}),
    "chunks, uneven tokens": Case(TRAIN, {"chunks": 2}, tokens=(5, 0, 21, 11)),
    "chunks, no tokens": Case(TRAIN.replace(T=0), {"chunks": 2}),
    "shadows": Case(TRAIN.replace(load="zipf:1.5"), {"shadows": 2}),
    "shadows of all": Case(TRAIN.replace(E=4, K=3), {"shadows": 4}),
    "shadows, biases": Case(TRAIN.replace(bias=True), {"shadows": 1, "local": "loop"}),
    "shadows, uneven tokens": Case(TRAIN, {"shadows": 2}, tokens=(5, 0, 21, 11)),
    "shadows, dropping, chunks": Case(DROPPING, {"shadows": 2, "chunks": 2}),
    "shadows, bfloat16": Case(TRAIN.replace(dtype="bfloat16", D=40), {"shadows": 2}),
    **{f"multiplied by {name}": Case(TRAIN, {"local": name}) for name in ("grouped", "loop", "padded")},
    "multiplied by block_sparse": Case(TRAIN.replace(D=64, F=32), {"local": "block_sparse"}),
    "wire float32": Case(TRAIN.replace(dtype="bfloat16", D=40, wire="float32", ranks=2)),
    "wire bfloat16": Case(TRAIN.replace(wire="bfloat16", ranks=2)),
    "wire bfloat16, odd width": Case(TRAIN.replace(D=7, wire="bfloat16", ranks=2)),
    "wire float16": Case(TRAIN.replace(wire="float16", ranks=2)),
    "wire float8": Case(TRAIN.replace(D=200, wire="float8_e4m3fn", dtype="bfloat16", ranks=2)),
    "wire float8, odd width": Case(TRAIN.replace(D=131, wire="float8_e4m3fn", mode="forward", ranks=2)),
    "wire float8, chunks, dropping": Case(
        DROPPING.replace(D=200, F=64, wire="float8_e4m3fn", dtype="bfloat16", ranks=2), {"chunks": 2}
    ),
}
POINTS = [
    (world, name, case)
    for world in PLACES
    for name in NAMES
    for case, what in CASES.items()
    if world > 1 or what.problem.wire is None
]


def by_default(world: int, name: str, case: str) -> bool:
    """Return whether the default run has a point: every dispatcher has every case, and more where it asks for nodes.

    What goes from rank to rank is the same on any nodes: such a dispatcher has its cases in one world each, in turn.
    """
    turn = NAMES.index(name) + list(CASES).index(case) + world
    if name in ("allgather", "alltoall"):
        return world > 1 and turn % 3 == 0
    return world == 4 or (world > 1 and turn % 6 == 0)


@cache
def inputs_of(name: str) -> Inputs:
    """Draw the same inputs in every process, with every seventh route missing, or all of them.

    Weights of missing routes are NaN. Where an expert comes ``twice``, it does so in every other token.
    """
    case = CASES[name]
    whole = case.problem.replace(ranks=1, wire=None)
    inputs = draw_inputs(whole, draw_weights(whole, seed=1, device=CPU), seed=2, device=CPU)
    ids_TK = inputs.routing.ids_TK.clone()
    if case.twice:
        ids_TK[::2, 1] = ids_TK[::2, 0]
    ids_TK.view(-1)[:: 7 if case.routes else 1] = NO_ROUTE
    gates_TK = inputs.routing.gates_TK.where(ids_TK != NO_ROUTE, torch.nan)
    return dataclasses.replace(inputs, routing=dataclasses.replace(inputs.routing, ids_TK=ids_TK, gates_TK=gates_TK))


@cache
def kept_of(name: str, problem: Problem) -> Routing:
    """Return the routes that each rank's capacity keeps."""
    case, routing = CASES[name], inputs_of(name).routing
    if problem.capacity is None:
        return routing
    kept = []
    for rank in range(problem.ranks):
        tokens = case.tokens_of(rank, problem.ranks)
        part = Routing(ids_TK=routing.ids_TK[tokens], gates_TK=routing.gates_TK[tokens], experts=routing.experts)
        kept.append(within_capacity(part, problem.drop, problem.capacity).ids_TK)
    return dataclasses.replace(routing, ids_TK=torch.cat(kept))


@cache
def expected_of(name: str, problem: Problem) -> Result:
    """Return the result of all ranks together."""
    single = problem.replace(ranks=1, wire=None, capacity_factor=None)
    return reference(single, dataclasses.replace(inputs_of(name), routing=kept_of(name, problem)))


def run_rank(name: str, chosen: str, ranks: int, rank: int) -> dict[str, object]:
    """Return the verdict on a rank's errors, the traffic that it sent and the traffic that was planned."""
    case = CASES[chosen]
    problem = case.problem.replace(ranks=ranks) if ranks > 1 else case.problem.replace(ranks=1, wire=None)
    shard = Shard(tokens=case.tokens_of(rank, ranks), experts=Shard.of(problem, rank).experts)
    kept = kept_of(chosen, problem)
    expected = expected_of(chosen, problem).shard(shard)
    mine = inputs_of(chosen).shard(shard)
    kernel = KERNELS.load(name)
    config: dict[str, int | float | str | bool] = {"local": "scatter", "chunks": 1, "shadows": 0, **case.config}
    if ranks == 1:
        config |= {"chunks": 1, "shadows": 0}
    layer = kernel.build(problem, config, CPU)
    counter: object = layer
    assert isinstance(counter, Communicates)
    result = call(problem, layer, mine.requires_grad_() if problem.mode == "train" else mine)
    result = Result(y_TD=result.y_TD, gradients={k: result.gradients[k] for k in expected.gradients})
    found: dict[str, Error] = errors(result, expected)
    planned = None
    if not case.tokens:
        planned = facts(kernel.cost(problem, config, kept).traffic[rank])
    return {"verdict": verdict(found, problem.rounding), "sent": facts(counter.traffic), "planned": planned}


def disagreement(ranks: int, rank: int) -> str:
    """Return the message that a rank gets when the last rank builds the layer of another problem."""
    problem = TRAIN.replace(ranks=ranks, seed=int(rank == ranks - 1))
    try:
        KERNELS.load("alltoall").build(problem, {"local": "scatter", "chunks": 1, "shadows": 0}, CPU)
    except Disagreement as error:
        return str(error)
    return "nothing"


def facts(counter: TrafficCounter) -> dict[str, int]:
    rest = {"messages": counter.messages, "rows": counter.rows, "routes": counter.routes}
    return {str(link): sent for link, sent in counter.bytes.items()} | rest


def rank_main(rank: int, folder: Path) -> None:
    """Run one process: the wanted points of every world that has its rank; results go to a file."""
    wanted = json.loads((folder / "wanted.json").read_text())
    torch.set_num_threads(1)
    results: dict[str, Any] = {}
    for world, per_node in PLACES.items():
        if rank < world:
            os.environ["LOCAL_WORLD_SIZE"] = str(per_node)
            dist.init_process_group(
                "gloo",
                init_method=(folder / f"world{world}").as_uri(),
                rank=rank,
                world_size=world,
                timeout=timedelta(seconds=COLLECTIVE_SECONDS),
            )
            for name, case in (point[1:] for point in wanted if point[0] == world):
                results[f"{world} {name} {case}"] = run_rank(name, case, world, rank)
            results[f"{world} disagreement"] = disagreement(world, rank)
            dist.destroy_process_group()
    (folder / f"rank{rank}.json").write_text(json.dumps(results))


def run_ranks(folder: Path) -> None:
    """Run one process for each rank, all of one that has imported everything; the first failure ends all."""
    context = multiprocessing.get_context("fork")
    started = [context.Process(target=rank_main, args=(rank, folder), daemon=True) for rank in range(max(PLACES))]
    for process in started:
        process.start()
    deadline = time.monotonic() + GROUP_SECONDS
    while any(process.exitcode is None for process in started):
        time.sleep(0.02)
        if time.monotonic() > deadline or any(process.exitcode for process in started):
            sys.exit("a rank hangs or failed, see its output")


@pytest.fixture(scope="module")
def results(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """Return the results of each rank, by world, dispatcher and case, for the points whose tests were selected."""
    folder = tmp_path_factory.mktemp("ranks")
    here = [getattr(item, "callspec", None) for item in request.session.items if item.path == request.path]
    cases = [one.params for one in here if one and "case" in one.params]
    wanted = [(case["world"], case["name"], case["case"]) for case in cases]
    (folder / "wanted.json").write_text(json.dumps(wanted))
    subprocess.run([sys.executable, __file__, str(folder)], check=True)
    return [json.loads((folder / f"rank{rank}.json").read_text()) for rank in range(max(PLACES))]


@pytest.mark.xdist_group("ranks")
@pytest.mark.parametrize(
    ("world", "name", "case"),
    [pytest.param(*point, marks=[] if by_default(*point) else pytest.mark.exhaustive) for point in POINTS],
)
def test_every_rank_has_its_part_of_the_result_and_sent_what_its_routes_plan(
    results: list[dict[str, Any]], world: int, name: str, case: str
) -> None:
    """Output and gradients equal the single-rank result; bytes by link, messages, rows and routes are as planned."""
    for rank in range(world):
        found = results[rank][f"{world} {name} {case}"]
        assert found["verdict"] is None, f"rank {rank}"
        if found["planned"] is not None:
            assert found["sent"] == found["planned"], f"rank {rank}"


@pytest.mark.xdist_group("ranks")
@pytest.mark.parametrize("world", [2, 3, 4])
def test_every_rank_is_told_which_rank_has_another_problem(results: list[dict[str, Any]], world: int) -> None:
    for rank in range(world):
        message = results[rank][f"{world} disagreement"]
        assert message.startswith("the ranks disagree on problem: rank 0 has T37.")
        assert f"rank {world - 1} has T37." in message


def test_a_problem_of_many_ranks_without_a_process_group_says_what_to_do() -> None:
    with pytest.raises(RuntimeError, match=r"ranks = 2, the process group has 1: start one process for each rank"):
        KERNELS.load("alltoall").build(TRAIN.replace(ranks=2), {"local": "scatter", "chunks": 1, "shadows": 0}, CPU)


if __name__ == "__main__":
    run_ranks(Path(sys.argv[1]))
