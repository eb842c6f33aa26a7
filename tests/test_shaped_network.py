"""Tests of the simulated network: link speeds are as asked, nodes are fast inside, and nothing is left behind."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from shaped_network import Node, network

MEGABIT = 1e6
# Of a full frame: 14 bytes of Ethernet, 20 of IP, 32 of TCP with its time stamps.
PAYLOAD_OF_FRAME = (1500 - 52) / 1514

RECEIVE = """
import socket, sys, time
with socket.create_server((sys.argv[1], 5000)) as server:
    print("listening", flush=True)
    with server.accept()[0] as link:
        total, started = len(link.recv(1 << 16)), time.perf_counter()
        received = 0
        while got := len(link.recv(1 << 20)):
            received += got
        print(8 * received / (time.perf_counter() - started))
"""
SEND = """
import socket, sys
with socket.create_connection((sys.argv[1], 5000)) as link:
    link.sendall(bytes(int(sys.argv[2])))
"""


def payload_bits_per_s(source: Node, target: Node, size: int) -> float:
    """Return the bandwidth of a plain transfer of so many bytes."""
    receive = target.inside(sys.executable, "-c", RECEIVE, target.address)
    with subprocess.Popen(receive, stdout=subprocess.PIPE, text=True) as receiver:
        assert receiver.stdout is not None
        assert receiver.stdout.readline() == "listening\n"
        subprocess.run(source.inside(sys.executable, "-c", SEND, target.address, str(size)), check=True)
        return float(receiver.stdout.read())


@pytest.mark.parametrize("megabits", [20, 200])
def test_a_link_has_the_bandwidth_that_was_set_and_counts_what_crosses_it(megabits: int) -> None:
    size = megabits * 125_000  # one second
    with network(2, megabits * MEGABIT) as (here, there):
        before = here.counters(), there.counters()
        got = payload_bits_per_s(here, there, size)
        sent, received = here.counters() - before[0], there.counters() - before[1]
    assert got == pytest.approx(megabits * MEGABIT * PAYLOAD_OF_FRAME, rel=0.04)
    assert sent.sent == received.received
    assert sent.received == received.sent
    assert size < sent.sent < 1.01 * size / PAYLOAD_OF_FRAME


def test_both_directions_and_every_node_have_a_link_of_their_own() -> None:
    with network(3, 50 * MEGABIT) as (first, second, third):
        for source, target in ((second, first), (third, second)):
            got = payload_bits_per_s(source, target, 5_000_000)
            assert got == pytest.approx(50 * MEGABIT * PAYLOAD_OF_FRAME, rel=0.04)


def test_inside_a_node_nothing_is_slow() -> None:
    with network(2, 20 * MEGABIT) as (here, _):
        before = here.counters()
        assert payload_bits_per_s(here, here, 50_000_000) > 50 * 20 * MEGABIT
        assert (here.counters() - before).sent == 0


ECHO = """
import socket, sys
with socket.create_server((sys.argv[1], 5000)) as server:
    print("listening", flush=True)
    with server.accept()[0] as link:
        while got := link.recv(1):
            link.sendall(got)
"""
ASK = """
import socket, sys, time
with socket.create_connection((sys.argv[1], 5000)) as link:
    started = time.perf_counter()
    for _ in range(10):
        link.sendall(b"?")
        link.recv(1)
    print((time.perf_counter() - started) / 10)
"""


def round_trip_s(source: Node, target: Node) -> float:
    """Return the round-trip time of one byte."""
    with subprocess.Popen(
        target.inside(sys.executable, "-c", ECHO, target.address), stdout=subprocess.PIPE, text=True
    ) as server:
        assert server.stdout is not None
        assert server.stdout.readline() == "listening\n"
        ask = source.inside(sys.executable, "-c", ASK, target.address)
        return float(subprocess.run(ask, capture_output=True, text=True, check=True).stdout)


@pytest.mark.parametrize("delay_s", [0.0, 0.01])
def test_a_delay_is_added_where_the_kernel_can(delay_s: float) -> None:
    with network(2, 100 * MEGABIT, delay_s) as (here, there):
        assert 2 * delay_s < round_trip_s(here, there) < 2 * delay_s + 0.01


def left() -> list[str]:
    """Return the network namespaces that tests of this process have left."""
    shown = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, check=True).stdout
    return [line for line in shown.splitlines() if line.startswith(f"moebench-{os.getpid()}-")]


def test_nothing_is_left_behind_after_a_failure() -> None:
    before = left()
    sleepers: list[subprocess.Popen[bytes]] = []

    def fails() -> None:
        with network(2, 10 * MEGABIT) as (here, _):
            sleepers.append(subprocess.Popen(here.inside("sleep", "60")))
            while Path(f"/proc/{sleepers[0].pid}/comm").read_text() != "sleep\n":
                time.sleep(0.01)
            assert len(left()) == len(before) + 3
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fails()
    assert sleepers[0].wait(timeout=5.0) == -9
    assert left() == before
    with pytest.raises(subprocess.CalledProcessError), network(2, -1):
        pass
    assert left() == before


def test_two_networks_at_the_same_time_are_strangers() -> None:
    with network(2, 10 * MEGABIT) as one, network(2, 10 * MEGABIT) as other:
        assert one[0].address == other[0].address
        assert len({node.namespace for node in (*one, *other)}) == 4
