"""The machine, the software and the commit that a record was made with."""

from __future__ import annotations

import os
import platform
from importlib import metadata
from pathlib import Path
from typing import Final, Literal

import torch

from ...common.cores import usable_cores
from ...common.git import GitError, git
from ...common.packages import installed_version
from .record import Environment

GIT_TIMEOUT_S: Final = 10.0  # git answers in milliseconds; a network disk that hangs must not stop a sweep
SOURCES: Final = (":(top)*.py", ":(top)*.cu", ":(top)*.cuh")  # a results file in the checkout changes no number


def fingerprint(
    device_type: Literal["cpu", "cuda"],
    *,
    device: str,
    driver: str | None,
    cupy: str | None = None,
    routes_by: str | None = None,
) -> Environment:
    """Return the environment of a record made now on the CPU or on torch's current CUDA device.

    ``device``, ``driver``, ``cupy`` and ``routes_by`` are the fields of ``Environment`` of those names.
    ``memory_bytes`` is the memory of that device; ``cores`` are those the process may use; ``cuda`` is None on the CPU.
    """
    on_cuda = device_type == "cuda"
    return Environment(
        device=device,
        device_type=device_type,
        cores=len(usable_cores()),
        threads=torch.get_num_threads(),
        memory_bytes=torch.cuda.get_device_properties().total_memory if on_cuda else _memory_bytes(),
        os=f"{platform.system()} {'.'.join(platform.release().split('.')[:2])}",
        python=platform.python_version(),
        torch=metadata.version("torch"),
        triton=installed_version("triton"),
        cuda=torch.version.cuda if on_cuda else None,
        driver=driver,
        cupy=cupy,
        routes_by=routes_by,
        moebench=metadata.version("moebench"),
    )


def commit(source: Path = Path(__file__)) -> str:
    """Return the commit of the checkout that holds ``source``, with ``-dirty`` after it when sources differ from it.

    ``unknown`` where git does not track the file: an installed package may lie inside the checkout of another project.
    """
    folder = source.resolve().parent
    try:
        git(folder, "ls-files", "--error-unmatch", "--", source.resolve().name, timeout_s=GIT_TIMEOUT_S)
        head = git(folder, "rev-parse", "HEAD", timeout_s=GIT_TIMEOUT_S).decode().strip()
        changes = git(folder, "status", "--porcelain", "--", *SOURCES, timeout_s=GIT_TIMEOUT_S)
    except GitError:
        return "unknown"
    return f"{head}-dirty" if changes else head


def _memory_bytes() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
