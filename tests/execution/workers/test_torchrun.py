"""Processes that torchrun started: they join one session, and claim the same or leave."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from functools import partial

import pytest
from torch.distributed import HashStore  # type: ignore[attr-defined]  # torch's stubs lack it

from moebench.execution.workers import torchrun
from moebench.execution.workers.rendezvous import LOOPBACK, RankInfo
from moebench.execution.workers.rendezvous_store import PrefixStore, Store, put, take
from moebench.execution.workers.torchrun import DIFFERENCES, SESSION, Launched, _find_session, _open_session
from moebench.execution.workers.worker import WorkerError

SAME = {"torch": "2.13.0", "command line": "run parallel"}


def beside(work: Callable[[], str]) -> Callable[[], str]:
    """Start work in a thread; return a function that waits for its result."""
    answers: list[str] = []
    thread = threading.Thread(target=lambda: answers.append(work()))
    thread.start()

    def answer() -> str:
        thread.join(timeout=10.0)
        return answers[0]

    return answer


def met(store: Store, *others: Mapping[str, str]) -> tuple[str, object]:
    """Join all ranks, rank 0 last; return the session's name and the differences that it holds."""
    finding = [beside(partial(_find_session, store, rank, claims)) for rank, claims in enumerate(others, start=1)]
    name = _open_session(store, 1 + len(others), SAME)
    assert [answer() for answer in finding] == [name] * len(others)
    return name, take(PrefixStore(name, store), DIFFERENCES)


def test_ranks_that_claim_the_same_are_one_session() -> None:
    assert met(HashStore(), SAME, SAME)[1] == []
    assert met(HashStore())[1] == []


def test_a_rank_that_differs_is_named_with_the_field_and_both_values() -> None:
    other = {"torch": "2.11.0", "command line": "run skew"}
    assert met(HashStore(), SAME, other, other)[1] == [
        "rank 2 differs from rank 0 in torch: 2.11.0 / 2.13.0",
        "rank 2 differs from rank 0 in command line: run skew / run parallel",
    ]


def test_what_an_earlier_start_left_in_the_store_is_passed_over() -> None:
    """An earlier session came to its end, and in another rank 0 died while it waited."""
    store = HashStore()
    first = met(store, SAME)[0]
    assert met(store, SAME)[0] != first
    put(store, SESSION, "its rank 0 died")
    assert met(store, SAME)[1] == []


def test_a_rank_that_does_not_come_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torchrun, "JOIN_S", 0.5)
    store = HashStore()
    with pytest.raises(WorkerError, match=r"rank 1 has not come for 0\.5 s"):
        _open_session(store, 2, SAME)
    with pytest.raises(WorkerError, match=r"rank 0 has not come for 0\.5 s"):
        _find_session(store, 1, SAME)


@pytest.mark.parametrize(
    ("rank", "ranks", "local"),
    [
        (0, 1, (0, 1)),
        (1, 2, (1, 2)),
        (1, 8, (1, 4)),
        (4, 6, (0, 2)),
        (5, 6, (1, 2)),
        (7, 8, (3, 4)),
    ],
)
def test_a_group_is_the_first_ranks_and_shares_each_machine(rank: int, ranks: int, local: tuple[int, int]) -> None:
    """Two machines of four: the ranks of a group that are on a machine share its cores."""
    me = Launched(rank=rank, world=8, local_rank=rank % 4, local_world=4, host="127.0.0.1", port=29500)
    assert me.rank_info(ranks) == RankInfo(rank=rank, ranks=ranks, local_rank=local[0], local_ranks=local[1])


def test_what_stays_on_one_machine_talks_through_its_loopback() -> None:
    alone = Launched(rank=0, world=4, local_rank=0, local_world=4, host="192.0.2.1", port=29500)
    assert alone.interface() == LOOPBACK
