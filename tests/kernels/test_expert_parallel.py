"""Expert parallelism against the reference, in real processes over gloo."""

from __future__ import annotations

import dataclasses
import json
import multiprocessing
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

from moebench.kernels.catalog import KERNELS
from moebench.kernels.implementations.expert_parallel import ExpertParallel, kernel
from moebench.kernels.kernel import Communicates
from moebench.kernels.oracle import Result, drop, reference
from moebench.kernels.problem import Problem
from moebench.kernels.routing import NO_ROUTE, Routing
from moebench.kernels.shard import Shard
from moebench.kernels.tensors import Inputs, draw_inputs, draw_weights

CPU = torch.device("cpu")
WORLDS = (1, 2, 3, 4)
COLLECTIVE_SECONDS = 20  # a rank that waits longer for the others gives up
GROUP_SECONDS = 90  # a group that takes longer is killed
BOUNDS = {"float32": 1e-5, "bfloat16": 1e-2}

TRAIN = Problem(T=37, D=12, F=8, E=9, K=3, mode="train")
PROBLEMS = {
    "dropless": TRAIN,
    "dropless not gated": TRAIN.replace(gated=False, activation="gelu"),
    "dropless one hot expert": TRAIN.replace(load="hot"),
    "dropless unused experts": TRAIN.replace(load="empty:0.6"),
    "dropless one expert each": TRAIN.replace(E=4),
    "dropless a rank without experts": TRAIN.replace(E=5),
    "dropless ranks without tokens": TRAIN.replace(T=2),
    "dropless no tokens": TRAIN.replace(T=0),
    "dropless no routes": TRAIN.replace(seed=13),
    "dropless forward": TRAIN.replace(mode="forward"),
    "dropless bfloat16": TRAIN.replace(dtype="bfloat16"),
    "first come": TRAIN.replace(capacity_factor=0.7),
    "first come not gated": TRAIN.replace(capacity_factor=0.7, gated=False, activation="relu"),
    "first come a rank without experts": TRAIN.replace(capacity_factor=0.7, E=5),
    "first come ranks without tokens": TRAIN.replace(capacity_factor=0.7, T=2),
    "first come no tokens": TRAIN.replace(capacity_factor=0.7, T=0),
    "first come no routes": TRAIN.replace(capacity_factor=0.7, seed=13),
    "first come forward": TRAIN.replace(capacity_factor=0.7, mode="forward"),
    "gate weight": TRAIN.replace(capacity_factor=0.7, drop="gate_weight"),
    "gate weight one hot expert": TRAIN.replace(capacity_factor=0.3, drop="gate_weight", load="hot"),
    "roomy": TRAIN.replace(capacity_factor=4.0),
}
POINTS = [(world, name) for world in WORLDS for name in PROBLEMS]


def inputs_of(name: str, problem: Problem) -> Inputs:
    """The same inputs in every process, every seventh route missing; all of them where the name says so."""
    inputs = draw_inputs(problem, draw_weights(problem, seed=1, device=CPU), seed=2, device=CPU)
    ids_TK = inputs.routing.ids_TK.clone()
    ids_TK.view(-1)[:: 1 if "no routes" in name else 7] = NO_ROUTE
    return dataclasses.replace(inputs, routing=dataclasses.replace(inputs.routing, ids_TK=ids_TK))


def run_rank(name: str, problem: Problem, rank: int) -> dict[str, float]:
    """Distances of one rank's results from its part of the reference, and the bytes it sent."""
    inputs = inputs_of(name, problem)
    shard = Shard.of(problem, rank)
    mine, expected = inputs.shard(shard), reference(problem, inputs).shard(shard)
    layer = kernel.build(problem, {}, CPU)
    assert isinstance(layer, Communicates)
    if problem.mode == "forward":
        found = Result(y_TD=layer(mine.x_TD, mine.routing, mine.weights), gradients={})
    else:
        mine.requires_grad_()
        y_TD = layer(mine.x_TD, mine.routing, mine.weights)
        y_TD.backward(mine.dy_TD)
        found = Result(y_TD=y_TD.detach(), gradients={k: gradient(t) for k, t in mine.differentiable().items()})
    pairs = {"y": (found.y_TD, expected.y_TD)}
    pairs |= {key: (found.gradients[key], wanted) for key, wanted in expected.gradients.items()}
    return {key: distance(*pair) for key, pair in pairs.items()} | {"sent_bytes": layer.sent_bytes}


def gradient(tensor: torch.Tensor) -> torch.Tensor:
    """Autograd leaves none for what is not used: only the weights of a rank without experts may be that."""
    assert tensor.grad is not None or tensor.numel() == 0
    return torch.zeros_like(tensor) if tensor.grad is None else tensor.grad


def distance(found: torch.Tensor, expected: torch.Tensor) -> float:
    assert found.shape == expected.shape
    norm = float(expected.norm())
    error = float((found.double() - expected).norm())
    return error / norm if norm else error


def rank_main(rank: int, folder: str) -> None:
    """One process: every problem in every world that has such a rank; results go to a file."""
    torch.set_num_threads(1)
    results = {}
    for world in WORLDS[1:]:
        if rank < world:
            dist.init_process_group(
                "gloo",
                init_method=(Path(folder) / f"world{world}").as_uri(),
                rank=rank,
                world_size=world,
                timeout=timedelta(seconds=COLLECTIVE_SECONDS),
            )
            for name, problem in PROBLEMS.items():
                results[f"{world} {name}"] = run_rank(name, problem.replace(ranks=world), rank)
            dist.destroy_process_group()
    (Path(folder) / f"rank{rank}.json").write_text(json.dumps(results))


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, dict[str, float]]]:
    """What each rank found: one group of processes runs all points, since starting them is what takes time."""
    folder = tmp_path_factory.mktemp("ranks")
    with processes(str(folder)) as started:
        deadline = time.monotonic() + GROUP_SECONDS
        for process in started:
            process.join(max(0.0, deadline - time.monotonic()))
        assert [process.exitcode for process in started] == [0] * len(started), "a rank failed or hung, see its output"
    found = [json.loads((folder / f"rank{rank}.json").read_text()) for rank in range(max(WORLDS))]
    alone = {f"1 {name}": run_rank(name, problem, 0) for name, problem in PROBLEMS.items()}
    return [alone | found[0], *found[1:]]


@contextmanager
def processes(folder: str) -> Iterator[list[multiprocessing.process.BaseProcess]]:
    """Started processes, one for each rank; those still running at the end are killed."""
    context = multiprocessing.get_context("spawn")
    started = [context.Process(target=rank_main, args=(rank, folder), daemon=True) for rank in range(max(WORLDS))]
    for process in started:
        process.start()
    try:
        yield list(started)
    finally:
        for process in started:
            process.kill()
            process.join()


@pytest.mark.parametrize(("world", "name"), POINTS)
def test_every_rank_equals_its_part_of_the_reference(
    results: list[dict[str, dict[str, float]]], world: int, name: str
) -> None:
    """y and all gradients: uneven tokens and experts, ranks without either, missing routes, both drop policies."""
    problem = PROBLEMS[name]
    for rank in range(world):
        found = results[rank][f"{world} {name}"]
        assert set(found) - {"sent_bytes"} == ({"y"} if problem.mode == "forward" else {"y", "x", "w_up", "w_down", "gates"})
        for key, error in found.items():
            if key != "sent_bytes":
                assert error <= BOUNDS[problem.dtype], f"{key} of rank {rank}"


@pytest.mark.parametrize(("world", "name"), POINTS)
def test_the_predicted_traffic_is_what_all_ranks_sent(
    results: list[dict[str, dict[str, float]]], world: int, name: str
) -> None:
    problem = PROBLEMS[name].replace(ranks=world)
    cost = kernel.cost(problem, drop(problem, inputs_of(name, problem).routing))
    assert sum(results[rank][f"{world} {name}"]["sent_bytes"] for rank in range(world)) == cost.traffic_bytes
    assert (cost.traffic_bytes > 0) == (world > 1)
