"""Sockets on which processes listen, read from the kernel."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Collection, Sequence

import pytest

needs_ss = pytest.mark.skipif(shutil.which("ss") is None, reason="there is no ss; it is in iproute2")


def listening(pids: Collection[int], ss: Sequence[str] = ("ss",)) -> set[str]:
    """The addresses, without ports, on which any of these processes listens for TCP connections.

    ``ss`` is the command to ask: processes in a network namespace are asked for in there.
    """
    told = subprocess.run([*ss, "-Hltnp"], capture_output=True, text=True, check=True).stdout
    addresses = set()
    for line in told.splitlines():
        if set(pids) & {int(pid) for pid in re.findall(r"pid=(\d+)", line)}:
            addresses.add(line.split()[3].rpartition(":")[0])
    return addresses
