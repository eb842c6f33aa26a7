"""Questions become predictions: every number of ranks, every dispatcher, none left out without a reason."""

from __future__ import annotations

import dataclasses

import pytest
from machine_descriptions import cluster

from moebench.kernels.problem import Problem
from moebench.suites.prediction.dispatcher_traffic import FLOWS
from moebench.suites.prediction.predict import PredictionRequest, predict

QUESTION = PredictionRequest(
    series="s",
    problem=Problem(T=64, D=64, F=96, E=8, K=2),
    machine=cluster(ranks_per_node=4),
    ranks=(1, 4, 6, 32),
)


def test_every_dispatcher_answers_for_every_number_of_ranks() -> None:
    found = list(predict(QUESTION))
    assert [(one.ranks, one.dispatcher) for one in found] == [
        (ranks, name) for ranks in QUESTION.ranks for name in FLOWS
    ]
    refused = [(one.ranks, one.dispatcher) for one in found if one.expected is None]
    assert refused == [(6, "hierarchical")]
    assert all(one.reason for one in found if one.expected is None)


def test_every_rank_has_as_many_tokens_and_groups_hold_all_experts() -> None:
    for one in predict(QUESTION):
        assert one.problem["T"] == 64 * one.group
        assert one.group == min(one.ranks, 8)
        assert one.ranks % one.group == 0
    kept = next(iter(predict(QUESTION)))
    assert kept.expected is not None
    assert kept.expected.sent.node == kept.expected.sent.across == 0


def test_a_wire_format_travels_where_anything_does() -> None:
    found = list(predict(dataclasses.replace(QUESTION, wire="bfloat16")))
    assert {one.wire for one in found if one.ranks == 1} == {"float32"}
    assert {one.wire for one in found if one.ranks > 1} == {"bfloat16"}
    plain = list(predict(QUESTION))
    for narrow, wide in zip(found, plain, strict=True):
        if narrow.expected and wide.expected and narrow.ranks > 1:
            assert narrow.expected.sent.node + narrow.expected.sent.across < (
                wide.expected.sent.node + wide.expected.sent.across
            )


@pytest.mark.parametrize("load", ["zipf:1.2", "hot"])
def test_a_skewed_load_takes_longer(load: str) -> None:
    skewed = dataclasses.replace(QUESTION, problem=QUESTION.problem.replace(load=load, T=4096), ranks=(8,))
    even = dataclasses.replace(QUESTION, problem=QUESTION.problem.replace(T=4096), ranks=(8,))
    for one, other in zip(predict(skewed), predict(even), strict=True):
        assert one.expected is not None
        assert other.expected is not None
        assert one.expected.seconds > other.expected.seconds
        assert one.expected.straggling > other.expected.straggling
