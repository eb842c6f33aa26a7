"""Planned traffic against numbers worked out by hand, and the ways that rows take in two hops and in a ring."""

from __future__ import annotations

import pytest
import torch

from moebench.kernels.catalog import KERNELS
from moebench.kernels.config import Config
from moebench.kernels.expert_parallel.planned_traffic import ring, two_hops
from moebench.kernels.nodes import NodeTopology
from moebench.kernels.problem import Problem
from moebench.kernels.problem.routing import NO_ROUTE, Routing
from moebench.kernels.traffic_counter import TrafficCounter

PROBLEM = Problem(T=4, D=8, F=4, E=4, K=2, ranks=2)
# Two ranks of two tokens and two experts. Rank 0 sends token 0 once to rank 1; rank 1 sends token 2 once and 3 twice.
ROUTING = Routing(
    ids_TK=torch.tensor([[0, 2], [1, NO_ROUTE], [3, 0], [1, 0]], dtype=torch.int32),
    gates_TK=torch.ones(4, 2),
    experts=4,
)
ROW, ROUTE, COUNT = 8 * 4, 8, 8


def sent(name: str, *, chunks: int = 1, shadows: int = 0, **changes: object) -> list[tuple[int, int, int, int]]:
    """Return for both ranks the bytes sent to the other, and the messages, rows and routes that leave."""
    config: Config = {"local": "loop", "chunks": chunks, "shadows": shadows}
    cost = KERNELS.load(name).cost(PROBLEM.replace(**changes), config, ROUTING)
    return [(one.bytes["node"] + one.bytes["across"], one.messages, one.rows, one.routes) for one in cost.traffic]


def test_a_row_for_every_route() -> None:
    there, home = ROW + ROUTE, ROW
    assert sent("alltoall") == [(COUNT + there + 3 * home, 3, 1, 1), (COUNT + 3 * there + home, 3, 3, 3)]


def test_a_training_step_sends_rows_out_and_home_once_more() -> None:
    out, home = ROW + ROUTE + ROW, ROW + ROW + ROUTE // 2
    assert sent("alltoall", mode="train") == [(COUNT + out + 3 * home, 5, 1, 1), (COUNT + 3 * out + home, 5, 3, 3)]


def test_a_row_for_every_rank() -> None:
    there, home = ROW + 2 * ROUTE, ROW
    assert sent("alltoall_dedup") == [(COUNT + there + 2 * home, 3, 1, 1), (COUNT + 2 * there + home, 3, 2, 3)]


def test_equal_splits_are_not_announced_and_filled_up() -> None:
    """C = 1, so that each rank sends one row to each of the other's two experts; bfloat16 halves the bytes."""
    padded = sent("alltoall", capacity_factor=1.0, dtype="bfloat16")
    assert padded == [
        (2 * (ROW // 2 + ROUTE) + 2 * ROW // 2, 2, 2, 1),
        (2 * (ROW // 2 + ROUTE) + 2 * ROW // 2, 2, 2, 3),
    ]


def test_everything_to_all() -> None:
    there, home = ROW + 2 * ROUTE, ROW
    assert sent("allgather") == [(COUNT + 2 * there + 2 * home, 3, 2, 1), (COUNT + 2 * there + 2 * home, 3, 2, 3)]


def test_chunks_are_more_messages_of_the_same_bytes() -> None:
    assert sent("alltoall", chunks=2)[0] == (2 * COUNT + ROW + ROUTE + 3 * ROW, 1 + 1 + 2, 1, 1)


def test_a_shadow_travels_instead_of_its_tokens() -> None:
    """Expert 0 has most routes: its two matrices go to rank 1, and of rank 1's routes only the one to expert 1."""
    expert = 4 * PROBLEM.D * (PROBLEM.U + PROBLEM.F)
    counts = 4 * COUNT + COUNT
    there, home = ROW + ROUTE, ROW
    assert sent("alltoall", shadows=1) == [(counts + expert + there + home, 6, 1, 1), (counts + there + home, 4, 1, 1)]
    # Its gradients come back, in float32 and one by one, as does the gradient of every row.
    assert sent("alltoall", shadows=1, mode="train")[1][0] == counts + 2 * (there + home) - ROUTE // 2 + expert


def test_two_hops_pass_by_the_rank_with_the_receivers_place() -> None:
    rows_RR = torch.zeros(4, 4, dtype=torch.int64)
    rows_RR[0, 3] = 5
    inside, across = two_hops(NodeTopology(ranks=4, per_node=2), rows_RR)
    assert inside.rows_RR.nonzero().tolist() == [[0, 1]]
    assert across.rows_RR.nonzero().tolist() == [[1, 3]]
    assert int(inside.rows_RR.sum()) == int(across.rows_RR.sum()) == 5


def test_a_ring_passes_every_block_past_every_rank_but_one() -> None:
    (hop,) = ring(NodeTopology(ranks=3, per_node=3), torch.tensor([[2, 2, 2], [7, 7, 7], [1, 1, 1]]))
    assert hop.rows_RR.tolist() == [[7, 14, 0], [0, 7, 14], [14, 0, 7]]
    assert hop.messages == 2


@pytest.mark.parametrize(
    ("source", "target", "link"), [(0, 0, "self"), (0, 1, "node"), (1, 2, "across"), (4, 3, "across"), (3, 2, "node")]
)
def test_ranks_share_nodes_in_order(source: int, target: int, link: str) -> None:
    topology = NodeTopology(ranks=5, per_node=2)
    assert topology.link(source, target) == link
    assert (topology.nodes, topology.even) == (3, False)


def test_where_ranks_sit_is_torchruns_to_say(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    assert NodeTopology.here(4) == NodeTopology(4, 4)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    assert NodeTopology.here(4) == NodeTopology(4, 2)
    assert NodeTopology.here(1) == NodeTopology(1, 1)


def test_what_stays_on_a_rank_is_no_message() -> None:
    counter = TrafficCounter(NodeTopology(2, 1), rank=1)
    counter.send(1, 10)
    counter.send(0, 0)
    assert (counter.bytes, counter.messages) == ({"self": 10, "node": 0, "across": 0}, 0)
    counter.send(0, 3, messages=4)
    assert (counter.bytes["across"], counter.messages) == (3, 4)
