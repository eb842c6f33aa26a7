"""Ranks share tokens and experts without gap or overlap."""

from __future__ import annotations

from hypothesis import assume, given
from hypothesis import strategies as st

from moebench.kernels.problem import Problem
from moebench.kernels.problem.shard import Shard, split_evenly


@given(items=st.integers(0, 10_000), ranks=st.integers(1, 600))
def test_sizes_sum_to_the_items_and_differ_by_one_at_most(items: int, ranks: int) -> None:
    sizes = split_evenly(items, ranks)
    assert len(sizes) == ranks
    assert sum(sizes) == items
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] - sizes[-1] <= 1


def test_no_rank_holds_nothing_while_there_is_enough() -> None:
    assert split_evenly(5, 4) == [2, 1, 1, 1]
    assert split_evenly(8, 4) == [2, 2, 2, 2]
    assert split_evenly(0, 2) == [0, 0]


@given(T=st.integers(0, 200), E=st.integers(1, 64), ranks=st.integers(1, 64))
def test_shards_of_all_ranks_partition_tokens_and_experts_in_order(T: int, E: int, ranks: int) -> None:
    assume(ranks <= E)
    problem = Problem(T=T, D=1, F=1, E=E, K=1, ranks=ranks)
    shards = [Shard.of(problem, rank) for rank in range(ranks)]
    assert [token for shard in shards for token in range(T)[shard.tokens]] == list(range(T))
    assert [expert for shard in shards for expert in range(E)[shard.experts]] == list(range(E))
    assert max(len(range(T)[shard.tokens]) for shard in shards) == problem.tokens_per_rank
