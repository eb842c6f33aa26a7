"""Study of decoding in transformers: experts under "moebench" timed by turns with transformers' own implementations.

    python studies/decode_in_transformers.py [DTYPE] [ROUNDS]     half a minute with the defaults of float32 and 15

A call of an experts module of OLMoE with few tokens, on one thread, without tuned tables. In a round each
implementation is called once, in an order drawn anew, so ratios hold on a machine with other work; they are no records.
"""

from __future__ import annotations

import logging
import random
import sys
import time
from statistics import median
from typing import Any

import torch
from transformers import OlmoeConfig
from transformers.models.olmoe.modeling_olmoe import OlmoeExperts

import moebench.transformers  # noqa: F401  # registers the implementation
from moebench.kernels.module import built_layers

OTHERS = ("eager", "grouped_mm")
TOKENS = (1, 2, 4, 8, 16, 32, 64)
ROUNDS, UNUSED = 15, 2
D, F, E, K = 1024, 512, 32, 4


class Choices(logging.Handler):
    """A listener to the log of choices that keeps the name of the kernel."""

    def __init__(self) -> None:
        super().__init__()
        self.kernels: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.kernels.append(record.getMessage().partition(": ")[2].partition(",")[0])


def experts(dtype: torch.dtype) -> Any:
    """Make the experts of a layer, drawn at random."""
    config = OlmoeConfig(hidden_size=D, intermediate_size=F, num_experts=E, num_experts_per_tok=K)
    made = OlmoeExperts(config).to(dtype)
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter, std=0.02)
    return made


def seconds(module: Any, tokens: int, dtype: torch.dtype, rounds: int) -> dict[str, float]:
    """Return the median time of a call by implementation."""
    x_TD, ids_TK = torch.randn(tokens, D).to(dtype), torch.rand(tokens, E).topk(K).indices
    gates_TK = torch.rand(tokens, K).to(dtype)
    names = ["moebench", *OTHERS]
    took: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(UNUSED + rounds):
        for name in random.sample(names, len(names)):
            module.config._experts_implementation = name  # noqa: SLF001  # it has no public name
            start = time.perf_counter()
            module(x_TD, ids_TK, gates_TK)
            took[name].append(time.perf_counter() - start)
    return {name: median(times[UNUSED:]) for name, times in took.items()}


def line(tokens: int, kernel: str, took: dict[str, float]) -> str:
    """Return a row of the table: times of the others over that of moebench."""
    mine = took["moebench"]
    ratios = " | ".join(f"{took[name] / mine:.2f}" for name in OTHERS)
    return f"| {tokens} | `{kernel}` | {mine * 1e3:.1f} | {ratios} |"


def main() -> None:
    torch.set_num_threads(1)
    dtype = getattr(torch, sys.argv[1] if len(sys.argv) > 1 else "float32")
    rounds = int(sys.argv[2]) if len(sys.argv) > 2 else ROUNDS
    choices, module = Choices(), experts(dtype)
    log = logging.getLogger(built_layers.__name__)
    log.setLevel(logging.INFO)
    log.addHandler(choices)
    with torch.no_grad():
        for tokens in TOKENS:
            took = seconds(module, tokens, dtype, rounds)
            print(line(tokens, choices.kernels[-1], took), flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
