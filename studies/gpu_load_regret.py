"""Study of tiles under uneven loads, by the static model of a GPU, as a Markdown table; a minute.

``python studies/gpu_load_regret.py [TARGET]``: how much longer than the best of the space under a load the best for the
uniform load is predicted to take, and in brackets that for the observed load: for the nearest of two that a table has.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

import torch

from moebench.autotune.search.static_model import predict, rates_of_target
from moebench.kernels.catalog import KERNELS
from moebench.kernels.cost_model.expert_rows import expected_routing
from moebench.kernels.hardware.device_limits import assuming
from moebench.kernels.hardware.gpus import HARDWARE
from moebench.kernels.module.observed_load import LOADS as SEEN
from moebench.kernels.problem import Problem
from moebench.kernels.problem.balance.sorted_shares import TOKENS, expected_shares, nearest_load
from moebench.kernels.problem.models import model

KERNEL: Final = KERNELS.load("triton_scatter")
MODELS: Final = ("Mixtral-8x7B", "OLMoE-1B-7B", "Qwen3-30B-A3B")
BATCHES: Final = (16, 64, 256, 1024, 4096)
TUNED: Final = ("uniform", "zipf:1")
LOADS: Final = ("zipf:0.5", "zipf:1", "zipf:2", "text")
META: Final = torch.device("meta")  # where the limits of a GPU can be assumed


class PredictedRegret(NamedTuple):
    """Shares of the best predicted time that the configuration for the uniform load loses, and that for another."""

    uniform: float
    observed: float


def taken(problem: Problem) -> str:
    """Return which of the tuned loads a layer takes for that of a problem, of which it sees the nearest it knows."""
    load = problem.load
    for known in (SEEN, TUNED):
        shares_E = expected_shares(load, E=problem.E, K=problem.K, tokens=TOKENS)
        load = nearest_load(shares_E, known, K=problem.K, tokens=TOKENS)
    return load


def regrets(problem: Problem, target: str, loads: Sequence[str] = LOADS) -> list[PredictedRegret]:
    """Return the regrets of a problem's layer under some loads."""
    seconds = {load: _seconds(problem.replace(load=load), target) for load in dict.fromkeys((*TUNED, *loads))}
    best = {load: times.index(min(times)) for load, times in seconds.items()}

    def regret(load: str, tuned: str) -> float:
        return seconds[load][best[tuned]] / min(seconds[load]) - 1

    return [PredictedRegret(regret(load, "uniform"), regret(load, taken(problem.replace(load=load)))) for load in loads]


def _seconds(problem: Problem, target: str) -> list[float]:
    """Return the predicted time of every configuration; a space does not depend on the load."""
    with assuming(HARDWARE[target]):
        space = [config for config in KERNEL.space(problem, META) if KERNEL.valid(problem, config, META)]
        rates = rates_of_target(target, problem.dtype)
        found = predict(KERNEL, problem, space, expected_routing(problem), rates, META)
    if found is None:
        raise AssertionError(f"{KERNEL.name} has no static model")
    return list(found)


def lines(target: str, models: Sequence[str] = MODELS, batches: Sequence[int] = BATCHES) -> Iterator[str]:
    """Yield the lines of a Markdown table, each when it has been predicted."""
    yield f"| model | T | {' | '.join(LOADS)} |"
    yield f"|---|--:|{'--:|' * len(LOADS)}"
    for name in models:
        for T in batches:
            found = regrets(model(name).problem(T=T, dtype="bfloat16").replace(router="softmax_topk"), target)
            cells = [f"{100 * one.uniform:.1f} % ({100 * one.observed:.1f} %)" for one in found]
            yield f"| {name} | {T} | {' | '.join(cells)} |"


def main(arguments: Sequence[str]) -> None:
    """Print the table for a target, by default an H100."""
    target = arguments[0] if arguments else "sm_90"
    if target not in HARDWARE:
        sys.exit(f"no target is named {target}: give one of {', '.join(HARDWARE)}")
    for line in lines(target):
        sys.stdout.write(f"{line}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1:])
