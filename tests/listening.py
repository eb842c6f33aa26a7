"""What processes really listen on, as the kernel says."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Collection

import pytest

needs_ss = pytest.mark.skipif(shutil.which("ss") is None, reason="there is no ss; it is in iproute2")


def listening(pids: Collection[int]) -> set[str]:
    """The addresses, without ports, on which any of these processes listens for TCP connections."""
    told = subprocess.run(["ss", "-Hltnp"], capture_output=True, text=True, check=True).stdout
    addresses = set()
    for line in told.splitlines():
        if set(pids) & {int(pid) for pid in re.findall(r"pid=(\d+)", line)}:
            addresses.add(line.split()[3].rpartition(":")[0])
    return addresses
