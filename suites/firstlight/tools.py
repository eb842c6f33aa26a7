"""Paths of NVIDIA's profiler and memory checker; in a rehearsal, those of their stand-ins."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterable
from pathlib import Path

PLACES = ("/usr/local/cuda/bin", "/usr/local/cuda/compute-sanitizer", "/opt/nvidia/nsight-compute/*")


def tool(name: str, *, real: bool) -> tuple[str, ...] | None:
    """Return the start of a tool's command line, None where the tool is not found."""
    if not real:
        return (sys.executable, "-m", f"{__package__}.programs.stand_in", name)
    found = shutil.which(name) or _in(_places(), name)
    return (found,) if found else None


def _places() -> Iterable[Path]:
    """Yield the folders of CUDA toolkits, the newest first, whether or not PATH has them."""
    home = os.environ.get("CUDA_HOME")
    for pattern in (*([f"{home}/bin"] if home else []), *PLACES):
        yield from sorted(Path("/").glob(pattern.removeprefix("/")), reverse=True)


def _in(folders: Iterable[Path], name: str) -> str | None:
    return shutil.which(name, path=os.pathsep.join(map(str, folders)))
