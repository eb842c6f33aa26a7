"""Study of layers that observe their load: timed by turns beside layers that do not, and beside every kernel.

    python studies/observed_layers.py [ROUNDS]     some minutes with the default of 60

The numbers are ratios within a round, in which each competitor is called once, in an order drawn anew, with the caches
as the others leave them. So they hold on a machine with other work; they are no records. The best kernel is chosen by
every other round and judged by the rest. Without a table a layer counts the rows of each call and falls back from a
kernel that pads; its kernel for a uniform load alone does not. Set OMP_NUM_THREADS=1 where other processes run: threads
that share a core with them wait for each other.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from load_regret import UNIFORM
from numpy.typing import NDArray

from moebench.kernels.module.moe_layer import MoELayer
from moebench.kernels.module.observed_load import EVERY
from moebench.kernels.problem import Problem
from moebench.kernels.problem.draw_routes import draw_routes
from moebench.kernels.problem.tensors import draw_weights
from moebench.kernels.tuned.select import choose
from moebench.results.stats import Interval, median

CPU = torch.device("cpu")
KERNELS_OF_LAYERS = ("padded", "grouped", "scatter", "loop")  # those that are ever the fastest on a CPU
LOADS = (UNIFORM, "zipf:0.5", "zipf:1", "zipf:2", "text")
POINTS = (
    Problem(T=64, D=512, F=192, E=128, K=8, dtype="bfloat16", router="softmax_topk"),
    Problem(T=512, D=512, F=192, E=128, K=8, dtype="bfloat16", router="softmax_topk"),
    Problem(T=512, D=256, F=128, E=64, K=8, router="softmax_topk"),
)
"""Qwen3-30B-A3B and OLMoE-1B-7B, scaled to widths of 512 and 256."""
ROUNDS = 60


@dataclass(frozen=True, kw_only=True)
class Turns:
    """Seconds of every competitor in every round, (competitors, rounds): both layers first, then the kernels.

    ``even`` is the kernel that is chosen for a uniform load, and ``seen`` the load that the one layer has observed.
    """

    problem: Problem
    even: str
    seen: str | None
    kernels: tuple[str, ...]
    seconds_CR: NDArray[np.float64]

    @property
    def best(self) -> int:
        """The place of the fastest kernel by every other round."""
        return 2 + int(np.median(self.seconds_CR[2:, ::2], axis=1).argmin())

    def over(self, competitor: int, other: int) -> Interval:
        """Return how many times as long as another a competitor takes, by the rounds that did not choose the best."""
        return median((self.seconds_CR[competitor, 1::2] / self.seconds_CR[other, 1::2]).tolist())


@torch.no_grad()
def turns(problem: Problem, rounds: int) -> Turns:
    """Time the layers and kernels on routes of a problem, after the one that observes has seen its load."""
    weights = draw_weights(problem, seed=0, device=CPU)
    observing = MoELayer.from_weights(weights, load="observed")
    even = choose(problem.replace(load=UNIFORM), CPU).kernel.name
    kernels = tuple(dict.fromkeys((*KERNELS_OF_LAYERS, even)))
    named = [MoELayer.from_weights(weights, dispatch=name) for name in kernels]
    layers = [MoELayer.from_weights(weights), observing, *named]
    x_TD = torch.randn(problem.T, problem.D, generator=torch.Generator().manual_seed(0)).to(weights.w_up_EUD.dtype)
    order, seconds_CR = np.random.default_rng(0), np.zeros((len(layers), rounds))
    for number in range(-2 * EVERY, rounds):  # the first are to warm up
        routing = draw_routes(problem, seed=abs(number), device=CPU)
        for competitor in order.permutation(len(layers)):
            started = time.perf_counter()
            layers[competitor](x_TD, routing.ids_TK, routing.gates_TK)
            if number >= 0:
                seconds_CR[competitor, number] = time.perf_counter() - started
    seen = observing.observed.load if observing.observed is not None else None
    return Turns(problem=problem, even=even, seen=seen, kernels=kernels, seconds_CR=seconds_CR)


def row(found: Turns) -> list[str]:
    """Return the cells of a point: regrets of the kernel for a uniform load and of both layers, and what is saved."""
    even, saved = 2 + found.kernels.index(found.even), found.over(1, 0)
    return [
        f"E={found.problem.E} D={found.problem.D}",
        f"{found.problem.T}",
        found.problem.load,
        str(found.seen),
        f"`{found.kernels[found.best - 2]}`",
        *(f"{100 * (found.over(place, found.best).value - 1):.0f} %" for place in (even, 0, 1)),
        f"{saved.value:.3f} ({saved.low:.3f} to {saved.high:.3f})",
    ]


def lines(points: Sequence[Problem], loads: Sequence[str], rounds: int) -> Iterator[str]:
    """Yield the lines of a Markdown table of some points under some loads, each when it has been measured."""
    regrets = ["its kernel for uniform", "layer", "observing layer"]
    columns = ["layer", "T", "load", "seen as", "best kernel", *regrets, "observing over other"]
    yield f"| {' | '.join(columns)} |"
    yield "|---|--:|---|---|---|--:|--:|--:|--:|"
    for point in points:
        for load in loads:
            yield f"| {' | '.join(row(turns(point.replace(load=load), rounds)))} |"


def main(arguments: Sequence[str]) -> None:
    """Print the table after so many rounds at each point."""
    rounds = int(arguments[0]) if arguments and arguments[0].isdecimal() else ROUNDS
    for line in lines(POINTS, LOADS, max(rounds, 2)):
        sys.stdout.write(f"{line}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1:])
