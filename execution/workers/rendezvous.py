"""Where the ranks of a group sit, how they find each other, and by which network interface they talk."""

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
    """One rank among all of its group, and among those of its machine, who share the cores and count the GPUs."""

    rank: int
    ranks: int
    local_rank: int
    local_ranks: int


@dataclass(frozen=True)
class FileRendezvous:
    """The ranks of one machine meet at a file that does not exist yet, and talk to nobody else."""

    path: Path
    interface: str = LOOPBACK


@dataclass(frozen=True, kw_only=True)
class StoreRendezvous:
    """Ranks meet under ``prefix`` in the TCPStore that torchrun keeps at ``host:port``.

    ``interface`` is what they talk through; None leaves the choice to gloo and NCCL.
    """

    host: str
    port: int
    prefix: str
    interface: str | None


Rendezvous = FileRendezvous | StoreRendezvous


def talk_through(interface: str | None) -> None:
    """Have the gloo and NCCL of this process listen on one interface, but for what the user has set himself."""
    if interface is not None:
        os.environ.setdefault("GLOO_SOCKET_IFNAME", interface)
        os.environ.setdefault("NCCL_SOCKET_IFNAME", f"={interface}")  # exactly this one, not all that begin so


def interface_towards(host: str, port: int) -> str | None:
    """The interface whose IPv4 address this machine reaches ``host`` from; None where there is none to be found."""
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
        return None  # it has none
    return socket.inet_ntoa(answer[20:24])
