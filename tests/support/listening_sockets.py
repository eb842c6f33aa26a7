"""Sockets on which processes listen, read from the kernel."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Collection, Sequence

import pytest

needs_ss = pytest.mark.skipif(shutil.which("ss") is None, reason="there is no ss; it is in iproute2")


def listening(pids: Collection[int], ss: Sequence[str] = ("ss",)) -> set[str]:
    """Return the addresses, without ports, on which any of these processes listens for TCP connections.

    Pass ``ss`` as a command that runs in their network namespace when the processes are in one.
    """
    answer = subprocess.run([*ss, "-Hltnp"], capture_output=True, text=True, check=True).stdout
    addresses = set()
    for line in answer.splitlines():
        if set(pids) & {int(pid) for pid in re.findall(r"pid=(\d+)", line)}:
            addresses.add(line.split()[3].rpartition(":")[0])
    return addresses
