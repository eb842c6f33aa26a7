"""Calls of every dispatcher, started on nodes by torchrun: noted bytes, bytes that crossed the link, and times."""

from __future__ import annotations

import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from shaped_network import INTERFACE

from moebench.execution.trial.reference_check import call
from moebench.execution.workers.rendezvous import interface_towards, talk_through
from moebench.kernels.catalog import KERNELS
from moebench.kernels.expert_parallel.communicates import Communicates
from moebench.kernels.problem import Problem
from moebench.kernels.problem.shard import Shard
from moebench.kernels.problem.tensors import draw_inputs, draw_weights

CPU = torch.device("cpu")
DISPATCHERS = tuple(name for name in KERNELS.names() if KERNELS.load(name).between_ranks)


def crossed() -> int:
    """Return the bytes that this node's interface has sent."""
    return int(Path(f"/sys/class/net/{INTERFACE}/statistics/tx_bytes").read_text())


def measured(problem: Problem, name: str, calls: int) -> dict[str, float]:
    """Return for a rank: payload noted for other nodes, what its node sent meanwhile, the median time of a call."""
    weights = draw_weights(problem, seed=0, device=CPU)
    inputs = draw_inputs(problem, weights, seed=1, device=CPU).shard(Shard.of(problem, dist.get_rank()))
    kernel = KERNELS.load(name)
    layer = kernel.build(problem, kernel.space(problem, CPU)[0], CPU)
    counter: object = layer
    assert isinstance(counter, Communicates)
    call(problem, layer, inputs)
    times = [timed(lambda: call(problem, layer, inputs)) for _ in range(calls)]
    dist.barrier()
    noted, sent = counter.traffic.bytes["across"], crossed()
    for _ in range(calls):
        call(problem, layer, inputs)
    dist.barrier()
    return {
        "noted": counter.traffic.bytes["across"] - noted,
        "sent": crossed() - sent,
        "ms": 1e3 * statistics.median(times),
    }


def timed(one: Callable[[], object]) -> float:
    """Return the seconds from the start of all ranks until the slowest has finished."""
    dist.barrier()
    started = time.perf_counter()
    one()
    seconds = torch.tensor(time.perf_counter() - started)
    dist.all_reduce(seconds, dist.ReduceOp.MAX)
    return float(seconds)


def main(calls: int, fields: dict[str, Any]) -> None:
    torch.set_num_threads(1)
    talk_through(interface_towards(os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])))
    dist.init_process_group("gloo")
    problem = Problem(**fields).replace(ranks=dist.get_world_size())
    found = {name: measured(problem, name, calls) for name in DISPATCHERS}
    everyone: list[dict[str, dict[str, float]]] = [{} for _ in range(dist.get_world_size())]
    dist.all_gather_object(everyone, found)
    if dist.get_rank() == 0:
        sys.stdout.write(f"found {json.dumps(everyone)}\n")
    dist.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), json.loads(sys.argv[2]))
