"""Batches that a call is compared with: every rank makes the same calls, and each property changes one thing."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from moebench.execution.trial.checks.other_batches import PARTS, REPEATS, SHUFFLES, SINGLE_TOKENS, other_batches
from moebench.kernels.guarantee import PROPERTIES
from moebench.kernels.problem import Problem
from moebench.kernels.problem.shard import Shard

TOKENS = st.integers(1, 300)


@given(TOKENS, st.integers(1, 4))
def test_all_ranks_make_the_same_calls_with_their_share_of_the_tokens(T: int, ranks: int) -> None:
    problem = Problem(T=T, D=8, F=8, E=4, K=1, ranks=ranks)
    of_ranks = [list(other_batches(problem, rank)) for rank in range(ranks)]
    for calls in zip(*of_ranks, strict=True):
        assert len({(name, batch.T) for name, batch in calls}) == 1
        (_, first), *_ = calls
        for rank, (_, batch) in enumerate(calls):
            own = Shard.of(problem, rank).tokens
            share = Shard.of(problem.replace(T=first.T), rank).tokens
            assert len(batch.token_t) == share.stop - share.start
            assert len(batch.token_t.unique()) == len(batch.token_t)
            assert all(0 <= token < own.stop - own.start for token in batch.token_t.tolist())


@given(TOKENS)
def test_each_property_changes_what_it_names(T: int) -> None:
    seen = list(other_batches(Problem(T=T, D=8, F=8, E=4, K=1), rank=0))
    assert [name for name, _ in seen] == sorted((name for name, _ in seen), key=PROPERTIES.index)
    for name, batch in seen:
        in_order = batch.token_t.tolist() == sorted(batch.token_t.tolist())
        if name == "repeat":
            assert torch.equal(batch.token_t, torch.arange(T))
        elif name == "order":
            assert sorted(batch.token_t.tolist()) == list(range(T))
        elif name == "alone":
            assert batch.T == len(batch.token_t) == 1
        else:
            assert 1 < batch.T < T
            assert in_order
    counts = {name: sum(one == name for one, _ in seen) for name in PROPERTIES}
    assert counts["repeat"] == REPEATS
    if T > 1:
        assert counts["alone"] == min(T, SINGLE_TOKENS)
        assert counts["order"] == 1 + SHUFFLES


@given(st.integers(4, 300))
def test_first_and_last_tokens_are_in_batches_of_every_size_and_alone(T: int) -> None:
    seen = list(other_batches(Problem(T=T, D=8, F=8, E=4, K=1), rank=0))
    for size in {batch.T for name, batch in seen if name in ("batch", "alone")}:
        tokens = [set(batch.token_t.tolist()) for name, batch in seen if size == batch.T]
        assert {0, T - 1} <= set.union(*tokens)
        assert size == 1 or len(tokens) <= PARTS
