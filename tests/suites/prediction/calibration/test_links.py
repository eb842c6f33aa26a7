"""Patterns cover every link class once, and a probe of real processes says what it measured."""

from __future__ import annotations

import pytest
import quick_probe
from hypothesis import given
from hypothesis import strategies as st

from moebench.suites.prediction.calibration import probe
from moebench.suites.prediction.calibration.links import patterns
from moebench.suites.prediction.calibration.probe import ProbeError, launch

pytestmark = pytest.mark.usefixtures("quick_start")


@given(ranks=st.integers(2, 12), ranks_per_node=st.integers(1, 6))
def test_groups_are_apart_and_pairs_use_one_class(ranks: int, ranks_per_node: int) -> None:
    per_node = min(ranks, ranks_per_node)
    for pattern in patterns(ranks, per_node):
        members = [rank for group in pattern.groups for rank in group]
        assert len(members) == len(set(members))
        hops = pattern.sent(10)
        assert hops
        assert all(source != target for source, target in hops)
        inside = {source // per_node == target // per_node for source, target in hops}
        if pattern.name not in ("everyone", "one to all"):
            assert inside == {"inside" in pattern.name}
        if pattern.senders is not None:
            assert {source for source, _ in hops} == set(pattern.senders)


def test_patterns_of_two_nodes_by_hand() -> None:
    names = {pattern.name: pattern.groups for pattern in patterns(4, 2)}
    assert names == {
        "everyone": ((0, 1, 2, 3),),
        "one to all": ((0, 1, 2, 3),),
        "inside": ((0, 1), (2, 3)),
        "across": ((0, 2), (1, 3)),
        "a pair inside": ((0, 1),),
        "one way inside": ((0, 1),),
        "a pair across": ((0, 2),),
        "one way across": ((0, 2),),
    }


def test_processes_are_started_and_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "take_part", quick_probe.quick)
    found = launch(2, "cpu")
    assert (found.ranks, found.ranks_per_node) == (2, 2)
    assert {one.pattern.name for one in found.exchanges} == {pattern.name for pattern in patterns(2, 2)}
    assert all(second > 0 for one in found.exchanges for second in one.seconds)
    assert set(found.products) == {"float32", "float16", "bfloat16"} == set(found.grouped)
    assert all(rates.alone > 0 and rates.together > 0 for rates in (*found.products.values(), found.copies))
    assert all(0 < share <= 1 for share in found.grouped.values())
    assert found.memory_bytes > 0
    assert 0 < found.layer_s < 1


def test_a_rank_that_fails_is_named_with_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "take_part", quick_probe.failing)
    with pytest.raises(ProbeError, match=r"^rank 1 of 2 failed: .*out of luck") as caught:
        launch(2, "cpu")
    assert "\n" not in str(caught.value)
