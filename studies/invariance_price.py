"""Price of one configuration for every number of tokens, by the static model of a GPU, as a Markdown table.

``python studies/invariance_price.py [TARGET]``: predicted times over those of the defaults, which go by the number of
tokens. The first line of a model is what `MoELayer(batch_invariant=True)` runs without a tuned table; the second is the
configuration of the space that loses least where it loses most, which a table of these numbers of tokens would have.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import torch

from moebench.autotune.search.static_model import predict, rates_of_target
from moebench.kernels.catalog import KERNELS
from moebench.kernels.config import Config
from moebench.kernels.cost_model.expert_rows import expected_routing
from moebench.kernels.hardware.device_limits import assuming
from moebench.kernels.hardware.gpus import HARDWARE
from moebench.kernels.problem import Problem
from moebench.kernels.problem.models import model
from moebench.kernels.tuned.every_batch import choose_for_every_batch

KERNEL: Final = KERNELS.load("triton_scatter")
MODELS: Final = ("Mixtral-8x7B", "OLMoE-1B-7B", "Qwen3-30B-A3B", "DeepSeek-V3")
TOKENS: Final = (1, 4, 16, 64, 256, 1024, 4096, 16384)
META: Final = torch.device("meta")  # where the limits of a GPU can be assumed
DTYPE: Final = "bfloat16"


@dataclass(frozen=True)
class Price:
    """Predicted times of one configuration over those of the defaults, for each number of tokens."""

    config: Config
    ratios: tuple[float, ...]

    @property
    def worst(self) -> float:
        return max(self.ratios)


def prices(problem: Problem, target: str, tokens: Sequence[int]) -> tuple[Price, Price]:
    """Return the price of the configuration that is chosen without a table, and that of the cheapest of the space."""
    with assuming(HARDWARE[target]):
        at = [problem.replace(T=T) for T in tokens]
        chosen = choose_for_every_batch(problem, META, KERNEL.name).config
        usual = [_default(one) for one in at]
        space = {str(config): config for one in at for config in KERNEL.space(one, META) if _guarantees(one, config)}
        times = [
            _seconds(one, [default, chosen, *space.values()], target) for one, default in zip(at, usual, strict=True)
        ]
    ratios = [tuple(seconds / default for seconds in others) for default, *others in times]
    every = [Price(config, of) for config, of in zip([chosen, *space.values()], zip(*ratios, strict=True), strict=True)]
    return every[0], min(every, key=lambda price: price.worst)


def _default(problem: Problem) -> Config:
    return next(config for config in KERNEL.space(problem, META) if KERNEL.valid(problem, config, META))


def _guarantees(problem: Problem, config: Config) -> bool:
    return KERNEL.guarantee(problem, config).of_every_batch and KERNEL.valid(problem, config, META)


def _seconds(problem: Problem, configs: Sequence[Config], target: str) -> list[float]:
    rates = rates_of_target(target, problem.dtype)
    found = predict(KERNEL, problem, configs, expected_routing(problem), rates, META)
    if found is None:
        raise AssertionError(f"{KERNEL.name} has no static model")
    return found


def table(target: str) -> str:
    """Return the prices of all models as Markdown."""
    lines = [f"| model | configuration | {' | '.join(f'T={T}' for T in TOKENS)} |", f"|---|---|{'--:|' * len(TOKENS)}"]
    for name in MODELS:
        for price in prices(model(name).problem(T=1, dtype=DTYPE), target, TOKENS):
            words = f"`up` {price.config['up']}, `down` {price.config['down']}"
            lines.append(f"| {name} | {words} | {' | '.join(f'{ratio:.2f}' for ratio in price.ratios)} |")
    return "\n".join(lines)


def main(arguments: Sequence[str]) -> None:
    """Print the table for a target, by default an H100."""
    target = arguments[0] if arguments else "sm_90"
    if target not in HARDWARE:
        sys.exit(f"no target is named {target}: give one of {', '.join(HARDWARE)}")
    sys.stdout.write(f"{table(target)}\n")


if __name__ == "__main__":
    main(sys.argv[1:])
