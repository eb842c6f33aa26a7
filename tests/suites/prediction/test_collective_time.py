"""Times of collectives: published formulas as special cases, and limits one by one."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from machine_descriptions import link

from moebench.suites.prediction.collective_time import CollectiveTimes
from moebench.suites.prediction.collectives import Transfer, equal, exchange, ring, two_hops
from moebench.suites.prediction.expected_rows import RowDistribution
from moebench.suites.prediction.layout import Layout
from moebench.suites.prediction.machine import Link, Rate

A, S, B = 1e-3, 4000.0, 1e6  # latency, bytes of a message, bytes/s


def clock(layout: Layout, *, node: Link | None = None, across: Link | None = None) -> CollectiveTimes:
    return CollectiveTimes(link={"node": node or link(), "across": across or link()}.__getitem__, layout=layout)


@pytest.mark.parametrize("ranks", [2, 3, 8])
def test_a_linear_all_to_all(ranks: int) -> None:
    """(n − 1) (α + S / β), where every message takes α (Thakur et al. 2005; DeepSpeed-MoE, section 5.2)."""
    layout = Layout(ranks=ranks, ranks_per_node=1)
    found = clock(layout, across=link(latency_s=A, message_s=A)).transfer(equal(layout, S))
    assert found.seconds == pytest.approx((ranks - 1) * (A + S / B))
    assert found.limit == "rank, across"


@pytest.mark.parametrize(("ranks", "local"), [(8, 2), (16, 8), (64, 8)])
def test_two_hops_are_those_of_tutel(ranks: int, local: int) -> None:
    """(m − 1) (α + n S / (m β)) + (n / m − 1) (α' + m S / β'): n ranks with S for each, m on a node."""
    layout = Layout(ranks=ranks, ranks_per_node=local)
    inside, across = link(latency_s=A, message_s=A, bytes_per_s=10 * B), link(latency_s=2 * A, message_s=2 * A)
    found = sum(clock(layout, node=inside, across=across).transfer(hop).seconds for hop in two_hops(layout, S))
    nodes = ranks // local
    expected = (local - 1) * (A + nodes * S / (10 * B)) + (nodes - 1) * (2 * A + local * S / B)
    assert found == pytest.approx(expected)


def test_a_node_sends_no_faster_than_its_egress() -> None:
    """B / W of the node for B bytes that its ranks send across, though each by itself could be faster."""
    layout = Layout(ranks=8, ranks_per_node=4)
    across = link(bytes_per_s=B, node_bytes_per_s=2 * B)
    found = clock(layout, node=link(bytes_per_s=100 * B), across=across).transfer(equal(layout, S))
    assert found.volume_s == pytest.approx(4 * 4 * S / (2 * B))
    assert found.limit == "node, across"


def test_link_classes_work_side_by_side() -> None:
    layout = Layout(ranks=4, ranks_per_node=2)
    slow_inside = clock(layout, node=link(bytes_per_s=B / 10), across=link(bytes_per_s=B))
    assert slow_inside.transfer(equal(layout, S)).volume_s == pytest.approx(S / (B / 10))
    assert slow_inside.transfer(equal(layout, S)).limit == "rank, inside"


def test_messages_after_the_first_cost_what_their_class_costs() -> None:
    """4 ranks on 2 nodes: one message inside, two across, of which the first is in the latency."""
    layout = Layout(ranks=4, ranks_per_node=2)
    inside, across = link(latency_s=1.0, message_s=0.01), link(latency_s=5.0, message_s=0.1)
    found = clock(layout, node=inside, across=across).transfer(equal(layout, S))
    assert found.latency_s == pytest.approx(5.0 + 0.01 + 2 * 0.1 - 0.1)


def test_a_ring_waits_for_every_message() -> None:
    """(n − 1) (α + S / β), with the slowest link of all, whatever the others are."""
    layout = Layout(ranks=4, ranks_per_node=2)
    found = clock(layout, node=link(latency_s=A, bytes_per_s=10 * B), across=link(latency_s=3 * A)).transfer(
        ring(layout, S)
    )
    assert found.latency_s == pytest.approx(3 * 3 * A)
    assert found.volume_s == pytest.approx(3 * S / (2 * B))  # both ranks of a node have a port across


@pytest.mark.parametrize(("pairs", "turns", "longer"), [(1, 1.0, 2.0), (1, 0.5, 1.5), (4, 1.0, 1.25), (1, None, 1.0)])
def test_pairs_that_take_turns_fill_each_others_pauses(pairs: int, turns: float | None, longer: float) -> None:
    """Every rank of one node with every rank of another over one link: one pair takes twice as long, many hardly."""
    local = round(pairs**0.5)
    layout = Layout(ranks=2 * local, ranks_per_node=local)
    across = link(bytes_per_s=B, node_bytes_per_s=B, turns=turns)
    found = clock(layout, across=across).transfer(equal(layout, S))
    assert found.volume_s == pytest.approx(longer * pairs * S / B)


def test_one_direction_waits_for_no_other() -> None:
    layout = Layout(ranks=2, ranks_per_node=1)
    sent_RR, joined_RR = np.array([[0.0, S], [0.0, 0.0]]), ~np.eye(2, dtype=bool)
    found = clock(layout, across=link(turns=1.0)).transfer(exchange(layout, sent_RR, joined_RR))
    assert found.volume_s == pytest.approx(S / B)


def test_the_receiver_of_most_is_waited_for() -> None:
    """Three ranks send to one: its link takes three times what each of theirs takes."""
    layout = Layout(ranks=4, ranks_per_node=1)
    sent_RR = np.zeros((4, 4))
    sent_RR[1:, 0] = S
    waited = clock(layout).transfer(exchange(layout, sent_RR, ~np.eye(4, dtype=bool)))
    assert waited.volume_s == pytest.approx(3 * S / B)
    shared = dataclasses.replace(clock(layout), balanced=True)
    assert shared.transfer(exchange(layout, sent_RR, ~np.eye(4, dtype=bool))).volume_s == pytest.approx(0.75 * S / B)


def test_groups_that_share_a_node_share_what_it_has() -> None:
    """Two groups of two ranks on a node of four: the node moves what both send."""
    alone, beside = (Layout(ranks=2, ranks_per_node=4, groups=groups) for groups in (1, 2))
    shared = link(bytes_per_s=B, node_bytes_per_s=2 * B)
    assert clock(alone, node=shared).transfer(equal(alone, S)).volume_s == pytest.approx(S / B)
    assert clock(beside, node=shared).transfer(equal(beside, S)).volume_s == pytest.approx(4 * S / (2 * B))


def test_work_is_done_by_ranks_that_share_cores() -> None:
    """One rank has all the work: it goes as fast as it can alone, not at its share of a busy node."""
    layout = Layout(ranks=4, ranks_per_node=4)
    rate = Rate(rank=10.0, node=20.0)
    assert clock(layout).work(RowDistribution.fixed(np.array([100.0, 0, 0, 0])), rate) == pytest.approx(10)
    assert clock(layout).work(RowDistribution.fixed(np.full(4, 100.0)), rate) == pytest.approx(20)


@given(ranks=st.integers(1, 12), local=st.integers(1, 4), size=st.floats(0, 1e6), faster=st.floats(1, 100))
def test_a_faster_link_or_a_smaller_message_never_takes_longer(
    ranks: int, local: int, size: float, faster: float
) -> None:
    layout = Layout(ranks=ranks, ranks_per_node=local)
    slow = clock(layout, node=link(latency_s=A), across=link(latency_s=A, turns=1.0))
    quick = clock(layout, node=link(latency_s=A), across=link(latency_s=A, bytes_per_s=faster * 1e6))
    for made in (equal, ring):
        transfer: Transfer = made(layout, size)
        assert quick.transfer(transfer).seconds <= slow.transfer(transfer).seconds + 1e-12
        assert slow.transfer(made(layout, size / 2)).seconds <= slow.transfer(transfer).seconds + 1e-12


def test_nothing_to_send_takes_no_time() -> None:
    layout = Layout(ranks=1, ranks_per_node=2)
    found = clock(layout, node=link(latency_s=A)).transfer(equal(layout, S))
    assert (found.seconds, found.limit) == (0.0, "")
