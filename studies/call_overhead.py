"""Study of the time that a call spends around its kernel: the layer, the function below it, and the custom operator.

    python studies/call_overhead.py [CALLS]     half a minute with the default of 4000

Each is called by turns with the bare kernel on one token, so the differences within a turn hold on a machine with other
work; they are no records. The kernel is the one that ``auto`` chooses. The operator is what a graph of torch.compile
calls; it is timed alone, without a graph around it.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping

import numpy as np
import torch
from numpy.typing import NDArray

from moebench.kernels.module.apply_experts import apply_experts
from moebench.kernels.module.built_layers import built
from moebench.kernels.module.expert_operators import experts
from moebench.kernels.module.moe_layer import MoELayer
from moebench.kernels.problem.routing import Routing
from moebench.results.stats import median

CALLS = 4000
UNUSED = 200
"""Calls of each before the first that counts."""
D, F, E, K = 64, 32, 8, 2

Call = Callable[[], object]
Times = NDArray[np.float64]


def competitors() -> dict[str, Call]:
    """Return the bare kernel and what calls it, all on one token; the bare kernel comes first."""
    layer = MoELayer(D=D, F=F, E=E).requires_grad_(False)
    weights, problem = layer.weights, layer.problem
    rng = torch.Generator().manual_seed(0)
    x_TD, gates_TK = torch.randn(1, D, generator=rng), torch.rand(1, K, generator=rng)
    ids_TK = torch.rand(1, E, generator=rng).topk(K).indices
    routing = Routing(ids_TK=ids_TK.int(), gates_TK=gates_TK, experts=E)
    kernel = built(problem, 1, K, None, "forward", x_TD.dtype, x_TD.device, layer.dispatch, False)
    options = (problem.activation, None, problem.drop, problem.capacity_rule, layer.dispatch, False)
    return {
        "kernel": lambda: kernel(x_TD, routing, weights),
        "apply_experts": lambda: apply_experts(problem, weights, x_TD, ids_TK, gates_TK),
        "MoELayer": lambda: layer(x_TD, ids_TK, gates_TK),
        "operator": lambda: experts(
            x_TD, ids_TK, gates_TK, weights.w_up_EUD, weights.w_down_EDF, None, None, *options
        ),
    }  # fmt: skip


def by_turns(calls: Mapping[str, Call], turns: int) -> dict[str, Times]:
    """Return the microseconds of every call in every turn, in which each is called once."""
    took = {name: np.empty(UNUSED + turns) for name in calls}
    for turn in range(UNUSED + turns):
        for name, call in calls.items():
            start = time.perf_counter_ns()
            call()
            took[name][turn] = (time.perf_counter_ns() - start) / 1e3
    return {name: times[UNUSED:] for name, times in took.items()}


def lines(took: Mapping[str, Times]) -> list[str]:
    """Return a table: the median of each, and what it takes more than the first in the same turn, with an interval."""
    first, *others = took
    found = [f"{first:<14} {np.median(took[first]):6.1f} µs"]
    for name in others:
        over = median((took[name] - took[first]).tolist())
        found.append(
            f"{name:<14} {np.median(took[name]):6.1f} µs, {over.value:.1f} more ({over.low:.1f} to {over.high:.1f})"
        )
    return found


def main() -> None:
    torch.set_num_threads(1)
    turns = int(sys.argv[1]) if len(sys.argv) > 1 else CALLS
    with torch.no_grad():
        print("\n".join(lines(by_turns(competitors(), turns))))  # noqa: T201


if __name__ == "__main__":
    main()
