"""Batches that a call is compared with: the same tokens again, in part, one by one, and in another order."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from ....kernels.guarantee import InvariantProperty
from ....kernels.problem import Problem
from ....kernels.problem.shard import Shard

REPEATS = 3  # of the whole call: what the order of atomic additions decides differs in most of them
PARTS = 4  # of each size: from the first tokens to the last ones, evenly spaced
SINGLE_TOKENS = 16  # that are computed alone, evenly spaced, the first and the last among them
SHUFFLES = 2  # besides the reversed order
ORDER_SEED = 1


@dataclass(frozen=True)
class OtherBatch:
    """A batch of ``T`` tokens on all ranks, of which this rank has its tokens ``token_t`` (int64) in that order."""

    T: int
    token_t: Tensor
    words: str


def other_batches(problem: Problem, rank: int) -> Iterator[tuple[InvariantProperty, OtherBatch]]:
    """Yield the batches for each property. Every rank yields as many, of the same T in the same order."""
    own = _size(problem, rank)
    everyone = torch.arange(own)
    for _ in range(REPEATS):
        yield "repeat", OtherBatch(problem.T, everyone, "the same call again")
    T = problem.T // 2
    while T > 1:
        size = min(own, _size(problem.replace(T=T), rank))
        for part in range(min(PARTS, -(-problem.T // T))):
            first = _spaced(part, min(PARTS, -(-problem.T // T)), own - size)
            yield "batch", OtherBatch(T, torch.arange(first, first + size), f"a batch of {T}")
        T //= 2
    if problem.T > 1:
        first_rank = _size(problem, 0)  # a batch of one token is on rank 0
        singles = min(SINGLE_TOKENS, first_rank)
        for single in range(singles):
            token = _spaced(single, singles, first_rank - 1)
            yield (
                "alone",
                OtherBatch(1, torch.tensor([token][: 1 if rank == 0 else 0], dtype=torch.int64), "a batch of its own"),
            )
        yield "order", OtherBatch(problem.T, everyone.flip(0), "reversed order")
        generator = torch.Generator().manual_seed(ORDER_SEED)
        for _ in range(SHUFFLES):
            yield "order", OtherBatch(problem.T, torch.randperm(own, generator=generator), "shuffled order")


def _spaced(index: int, count: int, last: int) -> int:
    """Return the place of one of ``count`` places that are evenly spaced from 0 to ``last``."""
    return round(index * last / (count - 1)) if count > 1 else 0


def _size(problem: Problem, rank: int) -> int:
    tokens = Shard.of(problem, rank).tokens
    return int(tokens.stop - tokens.start)
