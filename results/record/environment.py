"""The machine, the software and the commit that a record was made with."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Final, Literal

import torch

from ...common.cores import usable_cores
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
    """The environment of a record made now on the CPU or on torch's current CUDA device.

    Given are the device's name and driver, the CuPy that runs there and what orders routes, for which see
    ``Environment``. ``memory_bytes`` is the memory of that device; ``cores`` are those the process may use; ``cuda`` is
    None on the CPU.
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
        triton=_version("triton"),
        cuda=torch.version.cuda if on_cuda else None,
        driver=driver,
        cupy=cupy,
        routes_by=routes_by,
        moebench=metadata.version("moebench"),
    )


def commit(source: Path = Path(__file__)) -> str:
    """Commit of the checkout that holds ``source``, with ``-dirty`` after it when sources differ from it.

    ``unknown`` where git does not track the file: an installed package may lie inside the checkout of another project.
    """
    folder = source.resolve().parent
    if _git(folder, "ls-files", "--error-unmatch", "--", source.resolve().name) is None:
        return "unknown"
    head, changes = _git(folder, "rev-parse", "HEAD"), _git(folder, "status", "--porcelain", "--", *SOURCES)
    if head is None or changes is None:
        return "unknown"
    return f"{head}-dirty" if changes else head


def _git(folder: Path, *arguments: str) -> str | None:
    """What git prints, or None when it fails, hangs or is not there."""
    git = shutil.which("git")
    if git is None:
        return None
    command = [git, "--no-optional-locks", "-C", str(folder), *arguments]
    try:
        # The arguments are constants but for the names of this package's own files.
        answer = subprocess.run(command, capture_output=True, text=True, timeout=GIT_TIMEOUT_S, check=True)  # noqa: S603
    except (subprocess.SubprocessError, OSError):
        return None
    return answer.stdout.strip()


def _memory_bytes() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
