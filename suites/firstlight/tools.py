"""Paths of NVIDIA's profiler and memory checker; in a rehearsal, those of their stand-ins."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterable
from pathlib import Path

PLACES = ("/usr/local/cuda/bin", "/usr/local/cuda/compute-sanitizer", "/opt/nvidia/nsight-compute/*")


def tool(name: str, *, real: bool) -> tuple[str, ...] | None:
    """Return the words that start a tool, None where it is not found."""
    if not real:
        return (sys.executable, "-m", f"{__package__}.programs.stand_in", name)
    found = shutil.which(name) or _in(_places(), name)
    return (found,) if found else None


def _places() -> Iterable[Path]:
    """Return the paths in CUDA toolkits, whether or not PATH has them, the newest first."""
    home = os.environ.get("CUDA_HOME")
    for pattern in (*([f"{home}/bin"] if home else []), *PLACES):
        yield from sorted(Path("/").glob(pattern.removeprefix("/")), reverse=True)


def _in(folders: Iterable[Path], name: str) -> str | None:
    return shutil.which(name, path=os.pathsep.join(map(str, folders)))
