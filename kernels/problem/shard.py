"""Shards: the tokens and the experts that one rank holds."""

from __future__ import annotations

from dataclasses import dataclass

from .problem import Problem


def split_evenly(items: int, ranks: int) -> list[int]:
    """Return ``ranks`` sizes that sum to ``items`` and differ by one at most, the larger first."""
    size, larger = divmod(items, ranks)
    return [size + (rank < larger) for rank in range(ranks)]


@dataclass(frozen=True)
class Shard:
    """A contiguous range of tokens, and one of experts."""

    tokens: slice
    experts: slice

    @staticmethod
    def of(problem: Problem, rank: int) -> Shard:
        """Return the share of ``rank``: tokens and experts are split in order, and the last ranks may hold one less."""
        return Shard(tokens=_range(problem.T, problem.ranks, rank), experts=_range(problem.E, problem.ranks, rank))


def _range(items: int, ranks: int, rank: int) -> slice:
    sizes = split_evenly(items, ranks)
    start = sum(sizes[:rank])
    return slice(start, start + sizes[rank])
