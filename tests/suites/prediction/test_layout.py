"""Groups fill the machine, nodes are whole or shared, and every rank has an expert."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moebench.suites.prediction.layout import Layout


@given(ranks=st.integers(1, 4096), experts=st.integers(1, 512), ranks_per_node=st.sampled_from([1, 2, 3, 8, 72]))
def test_groups_are_equal_and_as_large_as_experts_and_nodes_allow(
    ranks: int, experts: int, ranks_per_node: int
) -> None:
    layout = Layout.of(ranks, experts=experts, ranks_per_node=ranks_per_node)
    assert layout.ranks * layout.groups == ranks
    assert layout.ranks <= experts
    if ranks <= experts:
        assert layout.groups == 1
    else:  # no node belongs to one group in part and to another in part
        assert layout.ranks % ranks_per_node == 0 or ranks_per_node % layout.ranks == 0
    sizes = np.bincount(layout.owner_E(experts))
    assert len(sizes) == layout.ranks
    assert sizes.max() - sizes.min() <= 1
    assert sorted(sizes, reverse=True) == list(sizes)


@pytest.mark.parametrize(
    ("ranks", "experts", "ranks_per_node", "expected"),
    [
        (65_536, 256, 8, (256, 256)),  # whole nodes
        (64, 8, 8, (8, 8)),  # a node each
        (16, 2, 8, (2, 8)),  # four to a node
        (24, 16, 8, (8, 3)),  # 12 would cut a node in two
        (12, 160, 8, (12, 1)),  # experts for all: one group, its last node half full
        (1024, 160, 8, (128, 8)),
    ],
)
def test_groups_by_hand(ranks: int, experts: int, ranks_per_node: int, expected: tuple[int, int]) -> None:
    layout = Layout.of(ranks, experts=experts, ranks_per_node=ranks_per_node)
    assert (layout.ranks, layout.groups) == expected


def test_ranks_know_their_node_and_their_place() -> None:
    layout = Layout(ranks=5, ranks_per_node=2)
    assert layout.node_R.tolist() == [0, 0, 1, 1, 2]
    assert layout.local_R.tolist() == [0, 1, 0, 1, 0]
    assert (layout.nodes, layout.local, layout.even, layout.groups_per_node) == (3, 2, False, 1)
    assert Layout(ranks=2, ranks_per_node=8, groups=8).groups_per_node == 4
    assert Layout(ranks=2, ranks_per_node=8, groups=3).groups_per_node == 3
    assert Layout(ranks=4, ranks_per_node=1).owner_E(6).tolist() == [0, 0, 1, 1, 2, 3]
