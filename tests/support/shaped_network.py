"""Nodes as network namespaces of this machine, with links of a given bandwidth between them.

Every node has one interface, a veth pair to a bridge in a separate namespace. Both ends of a pair send through a token
bucket, so that a node sends and receives at the rate of its link, and everything beyond a node is slow while everything
inside it is not.
"""

from __future__ import annotations

import itertools
import json
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

INTERFACE = "eth0"
BURST_S = 1e-3  # what the bucket lets through at once, in time of the link; a message longer than it is slowed down
LEAST_BURST_BYTES = 16 << 10  # ten frames: less would wait for the timer of the kernel
QUEUE_S = 0.2  # how long a frame may wait for its tokens; a link with this much buffer loses nothing that matters

_numbers = itertools.count()


@dataclass(frozen=True)
class Counters:
    """Bytes of frames that an interface has sent and received, with headers, 14 bytes of Ethernet included.

    Full frames have 1514 bytes; a fast link, from about 500 Mbit/s on, takes several of them in one with one header.
    """

    sent: int
    received: int

    def __sub__(self, before: Counters) -> Counters:
        return Counters(self.sent - before.sent, self.received - before.received)


@dataclass(frozen=True)
class Node:
    """Network namespace, which the other nodes reach at ``address``."""

    namespace: str
    address: str

    def inside(self, *command: str | Path) -> list[str]:
        """Return the command that runs another command on this node."""
        return ["ip", "netns", "exec", self.namespace, *map(str, command)]

    def counters(self) -> Counters:
        """Return what has crossed the link of the node until now."""
        shown = _ip("-n", self.namespace, "-s", "-j", "link", "show", "dev", INTERFACE)
        traffic: Any = json.loads(shown)[0]["stats64"]
        return Counters(sent=traffic["tx"]["bytes"], received=traffic["rx"]["bytes"])


@contextmanager
def network(nodes: int, bits_per_s: float, delay_s: float = 0.0) -> Iterator[list[Node]]:
    """Yield nodes whose links carry ``bits_per_s`` of frames each way, with a delay of ``delay_s`` out of each node.

    On leaving, every process on a node is killed and the network is removed. A test is skipped where namespaces, the
    tools or the delays are not available.
    """
    name = f"moebench-{os.getpid()}-{next(_numbers)}"
    switch = f"{name}-switch"
    with ExitStack() as left:
        _namespace(switch, left)
        _ip("-n", switch, "link", "add", "bridge", "type", "bridge", "mcast_snooping", "0")
        _up(switch, "bridge")
        joined = []
        for number in range(nodes):
            node = Node(f"{name}-{number}", f"10.77.0.{number + 1}")
            port = f"port{number}"
            _namespace(node.namespace, left)
            pair = ("type", "veth", "peer", "name", port, "netns", switch)
            _ip("-n", node.namespace, "link", "add", INTERFACE, *pair)
            _ip("-n", switch, "link", "set", port, "master", "bridge")
            _ip("-n", node.namespace, "address", "add", f"{node.address}/24", "dev", INTERFACE)
            for namespace, interface in ((node.namespace, INTERFACE), (switch, port)):
                _shape(namespace, interface, bits_per_s, delay_s if interface == INTERFACE else 0.0)
                _up(namespace, interface)
            _up(node.namespace, "lo")
            joined.append(node)
        yield joined


def _namespace(name: str, left: ExitStack) -> None:
    for tool in ("ip", "tc"):
        if shutil.which(tool) is None:
            pytest.skip(f"there is no {tool}; it is in iproute2")
    try:
        _ip("netns", "add", name)
    except subprocess.CalledProcessError as error:
        pytest.skip(f"network namespaces are not permitted here: {error.stderr.strip()}")
    left.callback(_remove, name)


def _remove(name: str) -> None:
    for pid in _ip("netns", "pids", name).split():
        with suppress(ProcessLookupError):
            os.kill(int(pid), signal.SIGKILL)
    _ip("netns", "delete", name)  # and with it the interfaces, and the other ends of their pairs


def _up(namespace: str, interface: str) -> None:
    """Bring an interface up without an address that it chooses itself, which it would announce."""
    _ip("-n", namespace, "link", "set", interface, "addrgenmode", "none")
    _ip("-n", namespace, "link", "set", interface, "up")


def _shape(namespace: str, interface: str, bits_per_s: float, delay_s: float) -> None:
    parent = ["root"]
    if delay_s:
        try:
            _tc(namespace, interface, "root", "handle", "1:", "netem", "delay", f"{1e6 * delay_s:.0f}us")
        except subprocess.CalledProcessError as error:
            pytest.skip(f"this kernel delays nothing: {error.stderr.strip()}")
        parent = ["parent", "1:1"]
    burst = max(LEAST_BURST_BYTES, round(bits_per_s / 8 * BURST_S))
    bucket = ("tbf", "rate", f"{bits_per_s:.0f}bit", "burst", f"{burst}b", "latency", f"{1e6 * QUEUE_S:.0f}us")
    _tc(namespace, interface, *parent, *bucket)


def _tc(namespace: str, interface: str, *arguments: str) -> None:
    subprocess.run(
        ["tc", "-n", namespace, "qdisc", "add", "dev", interface, *arguments],
        capture_output=True,
        text=True,
        check=True,
    )


def _ip(*arguments: str) -> str:
    return subprocess.run(["ip", *arguments], capture_output=True, text=True, check=True).stdout
