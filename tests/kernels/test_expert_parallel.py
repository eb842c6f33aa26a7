"""Expert parallelism against the reference, in real processes over gloo."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

from moebench.kernels.implementations.expert_parallel import kernel
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
    counter: object = layer
    assert isinstance(counter, Communicates)
    if problem.mode == "forward":
        found = Result(y_TD=layer(mine.x_TD, mine.routing, mine.weights), gradients={})
    else:
        mine.requires_grad_()
        y_TD = layer(mine.x_TD, mine.routing, mine.weights)
        y_TD.backward(mine.dy_TD)
        found = Result(y_TD=y_TD.detach(), gradients={k: gradient(t) for k, t in mine.differentiable().items()})
    pairs = {"y": (found.y_TD, expected.y_TD)}
    pairs |= {key: (found.gradients[key], wanted) for key, wanted in expected.gradients.items()}
    return {key: distance(*pair) for key, pair in pairs.items()} | {"sent_bytes": counter.sent_bytes}


def gradient(tensor: torch.Tensor) -> torch.Tensor:
    """Autograd leaves none for what is not used: only the weights of a rank without experts may be that."""
    assert tensor.grad is not None or tensor.numel() == 0
    return torch.zeros_like(tensor) if tensor.grad is None else tensor.grad


def distance(found: torch.Tensor, expected: torch.Tensor) -> float:
    assert found.shape == expected.shape
    norm = float(expected.norm())
    error = float((found.double() - expected).norm())
    return error / norm if norm else error


def rank_main(rank: int, folder: Path) -> None:
    """One process: every problem in every world that has such a rank; results go to a file."""
    torch.set_num_threads(1)
    results = {}
    for world in WORLDS[1:]:
        if rank < world:
            dist.init_process_group(
                "gloo",
                init_method=(folder / f"world{world}").as_uri(),
                rank=rank,
                world_size=world,
                timeout=timedelta(seconds=COLLECTIVE_SECONDS),
            )
            for name, problem in PROBLEMS.items():
                results[f"{world} {name}"] = run_rank(name, problem.replace(ranks=world), rank)
            dist.destroy_process_group()
    (folder / f"rank{rank}.json").write_text(json.dumps(results))


def run_ranks(folder: Path) -> None:
    """One group of processes runs all points, since starting them is what takes time; the first failure ends all."""
    command = [sys.executable, __file__]
    started = [subprocess.Popen([*command, str(rank), str(folder)]) for rank in range(max(WORLDS))]
    deadline = time.monotonic() + GROUP_SECONDS
    try:
        while any(process.poll() is None for process in started):
            assert time.monotonic() < deadline, "the ranks hang"
            assert not any(process.poll() for process in started), "a rank failed, see its output"
            time.sleep(0.05)
    finally:
        for process in started:
            process.kill()
            process.wait()
    assert [process.returncode for process in started] == [0] * len(started)


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, dict[str, float]]]:
    """What each rank found, by world and name."""
    folder = tmp_path_factory.mktemp("ranks")
    run_ranks(folder)
    found = [json.loads((folder / f"rank{rank}.json").read_text()) for rank in range(max(WORLDS))]
    alone = {f"1 {name}": run_rank(name, problem, 0) for name, problem in PROBLEMS.items()}
    return [alone | found[0], *found[1:]]


@pytest.mark.parametrize(("world", "name"), POINTS)
def test_every_rank_equals_its_part_of_the_reference(
    results: list[dict[str, dict[str, float]]], world: int, name: str
) -> None:
    """Output and gradients: uneven tokens and experts, ranks without either, missing routes, both drop policies."""
    problem = PROBLEMS[name]
    for rank in range(world):
        found = results[rank][f"{world} {name}"]
        assert set(found) - {"sent_bytes"} == (
            {"y"} if problem.mode == "forward" else {"y", "x", "w_up", "w_down", "gates"}
        )
        for key, error in found.items():
            if key != "sent_bytes":
                assert error <= BOUNDS[problem.dtype], f"{key} of rank {rank}"


@pytest.mark.parametrize(("world", "name"), POINTS)
def test_the_predicted_traffic_is_what_all_ranks_sent(
    results: list[dict[str, dict[str, float]]], world: int, name: str
) -> None:
    problem = PROBLEMS[name].replace(ranks=world)
    cost = kernel.cost(problem, {}, drop(problem, inputs_of(name, problem).routing))
    assert sum(results[rank][f"{world} {name}"]["sent_bytes"] for rank in range(world)) == cost.traffic_bytes
    assert (cost.traffic_bytes > 0) == (world > 1)


def test_traffic_of_a_routing_worked_out_by_hand() -> None:
    """Two ranks of two tokens and two experts: three routes leave their rank, and each rank sends two counts."""
    problem = Problem(T=4, D=8, F=4, E=4, K=2, ranks=2)
    ids_TK = torch.tensor([[0, 2], [1, NO_ROUTE], [3, 0], [1, 2]], dtype=torch.int32)
    routing = Routing(ids_TK=ids_TK, gates_TK=torch.ones(4, 2), experts=4)
    rows = 3 * 8 * 4
    assert kernel.cost(problem, {}, routing).traffic_bytes == 2 * rows + 2 * 2 * 8
    assert kernel.cost(problem.replace(mode="train"), {}, routing).traffic_bytes == 4 * rows + 2 * 2 * 8
    # C = 1, so that each rank sends one row to each of the other rank's two experts.
    padded = kernel.cost(problem.replace(capacity_factor=1.0, dtype="bfloat16"), {}, routing)
    assert padded.traffic_bytes == 2 * (2 * 2 * 8 * 2)
    assert padded.executed_rows == 2 * 4


def test_a_problem_of_many_ranks_without_a_process_group_says_what_to_do() -> None:
    with pytest.raises(RuntimeError, match=r"ranks = 2, the process group has 1: start one process for each rank"):
        kernel.build(TRAIN.replace(ranks=2), {}, CPU)


if __name__ == "__main__":
    rank_main(int(sys.argv[1]), Path(sys.argv[2]))
