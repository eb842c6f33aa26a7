"""Communication streams: jobs run in order, errors are raised at the wait, and times are measured."""

from __future__ import annotations

import threading
import time
from functools import partial

import pytest
import torch
from torch import Tensor

from moebench.kernels.expert_parallel.comm_stream import CommStream, SerialStream, ThreadStream, TimedStream, stream_for

CPU = torch.device("cpu")
NAP_S = 0.05


def nap() -> Tensor:
    time.sleep(NAP_S)
    return torch.ones(1)


@pytest.mark.parametrize("one", [SerialStream(), ThreadStream(), TimedStream(ThreadStream(), CPU)])
def test_jobs_run_in_the_order_in_which_they_are_submitted(one: CommStream) -> None:
    order: list[int] = []

    def job(number: int) -> Tensor:
        order.append(number)
        return torch.tensor(number)

    pending = [one.submit(partial(job, number)) for number in range(20)]
    assert [int(each.wait()) for each in reversed(pending)] == list(reversed(range(20)))
    assert order == list(range(20))


def test_with_one_chunk_nothing_runs_beside() -> None:
    here = threading.get_ident()
    assert int(stream_for(CPU, 1).submit(lambda: torch.tensor(threading.get_ident())).wait()) == here
    assert int(stream_for(CPU, 2).submit(lambda: torch.tensor(threading.get_ident())).wait()) != here


def test_what_fails_beside_is_raised_where_it_is_waited_for() -> None:
    def fails() -> Tensor:
        raise ConnectionError("a rank is gone")

    pending = ThreadStream().submit(fails)
    with pytest.raises(ConnectionError, match="a rank is gone"):
        pending.wait()


def test_jobs_take_no_part_in_autograd() -> None:
    x = torch.ones(1, requires_grad=True)
    assert not ThreadStream().submit(lambda: x * 2).wait().requires_grad


def test_what_is_computed_meanwhile_is_hidden_and_what_is_waited_for_exposed() -> None:
    hidden = TimedStream(ThreadStream(), CPU)
    pending = hidden.submit(nap)
    time.sleep(3 * NAP_S)
    pending.wait()
    assert hidden.busy_ns > 0.9e9 * NAP_S
    assert hidden.exposed_ns < 0.5 * hidden.busy_ns
    exposed = TimedStream(SerialStream(), CPU)
    exposed.submit(nap).wait()
    assert exposed.exposed_ns >= exposed.busy_ns > 0.9e9 * NAP_S
