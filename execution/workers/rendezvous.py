"""Rendezvous of the ranks of a group, and the network interface that they use. Needs no torch."""

from __future__ import annotations

import fcntl
import os
import socket
import struct
import sys
from dataclasses import dataclass
from pathlib import Path

LOOPBACK = "lo" if sys.platform == "linux" else "lo0"
SIOCGIFADDR = 0x8915  # Linux: the IPv4 address of an interface


@dataclass(frozen=True, kw_only=True)
class RankInfo:
    """One rank in its group, and among the ranks of its machine, which share the cores and count the GPUs."""

    rank: int
    ranks: int
    local_rank: int
    local_ranks: int


@dataclass(frozen=True)
class FileRendezvous:
    """Rendezvous of the ranks of one machine at a file that does not exist yet, on the loopback interface only."""

    path: Path
    interface: str = LOOPBACK


@dataclass(frozen=True, kw_only=True)
class StoreRendezvous:
    """Rendezvous under ``prefix`` in the TCPStore that torchrun keeps at ``host:port``.

    ``interface`` is the network interface that the ranks use; None leaves the choice to gloo and NCCL.
    """

    host: str
    port: int
    prefix: str
    interface: str | None


Rendezvous = FileRendezvous | StoreRendezvous


def talk_through(interface: str | None) -> None:
    """Make gloo and NCCL of this process use one interface, unless the user has set another one."""
    if interface is not None:
        os.environ.setdefault("GLOO_SOCKET_IFNAME", interface)
        os.environ.setdefault("NCCL_SOCKET_IFNAME", f"={interface}")  # exactly this one, not all with this prefix


def interface_towards(host: str, port: int) -> str | None:
    """Return the interface with the IPv4 address from which this machine reaches ``host``; None where none is found."""
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.connect((host, port))  # chooses the address and sends nothing
            address = probe.getsockname()[0]
            return next(name for _, name in socket.if_nameindex() if _address(probe, name) == address)
    except (OSError, StopIteration):
        return None


def _address(probe: socket.socket, interface: str) -> str | None:
    try:
        answer = fcntl.ioctl(probe, SIOCGIFADDR, struct.pack("256s", interface.encode()))
    except OSError:
        return None  # the interface has no address
    return socket.inet_ntoa(answer[20:24])
