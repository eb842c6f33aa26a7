"""Bytes of memory: the peak of a call, what it keeps for its backward, and what the machine has available."""

from __future__ import annotations

import ctypes
import gc
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from .operators import Operator, allocates, tensors, watch_operators

T = TypeVar("T")
GIB = 1 << 30

# glibc's M_MMAP_THRESHOLD, at its maximum, and M_TRIM_THRESHOLD, as good as never.
KEPT = ((-3, 32 << 20), (-1, (1 << 31) - 1))

_MEMINFO = Path("/proc/meminfo")
_GROUP = Path("/sys/fs/cgroup")


def available_bytes(device: torch.device, meminfo: Path = _MEMINFO, group: Path = _GROUP) -> int:
    """Return the bytes that can still be allocated on the device.

    On a GPU they include the unused blocks of torch's caching allocator, which it uses again or returns when another
    size is requested.

    Raises:
        OSError: where the system does not report it.
    """
    if device.type == "cuda":
        cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(torch.cuda.mem_get_info(device)[0]) + cached
    for line in meminfo.read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return min(int(line.split()[1]) * 1024, _left_in(group))
    raise OSError(f"{meminfo} does not say MemAvailable; moebench measures on Linux")


def needs(needed: int, available: int) -> str:
    """Return in words how many bytes something needs, and how many are available."""
    return f"needs about {needed / GIB:.1f} GiB, {available / GIB:.1f} GiB are available"


def give_back(device: torch.device) -> None:
    """Return unused memory to the device.

    Torch's caching allocator keeps freed blocks in their sizes, and cannot join them to a larger one.
    """
    gc.collect()  # a cycle of references may still hold tensors
    if device.type == "cuda":
        torch.cuda.empty_cache()


def _left_in(group: Path) -> int:
    """Return the bytes left under a control group's limit, 2^62 where there is no limit."""
    limit = group / "memory.max"
    if not limit.exists() or (text := limit.read_text().strip()) == "max":
        return 1 << 62
    kinds = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
    # Pages of files that were read once count as used, but are given back before anything is refused.
    return int(text) - int((group / "memory.current").read_text()) + int(kinds["inactive_file"])


def keep_freed_memory() -> bool:
    """Let this process keep the memory that CPU tensors free, as after a long run; return False where it cannot.

    By default glibc gives large blocks back, and asks again, page by page, until it has seen enough of their sizes: a
    call that allocates 30 MB took 24 ms in a fresh process and 18 ms in an old one.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and all(mallopt(option, value) == 1 for option, value in KEPT)


def peak(call: Callable[[], T], device: torch.device) -> tuple[T, int]:
    """Run ``call`` once; return its result and the peak bytes of the tensors that it allocated.

    On a GPU the caching allocator counts; on a CPU every tensor storage that an operator returns, so that the figure
    depends on the call alone and is the same on every run. Scratch memory inside one operator is not seen there.
    """
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        result = call()
        torch.cuda.synchronize(device)
        return result, torch.cuda.max_memory_allocated(device) - before
    if device.type == "meta":  # there operators import torch's compiler, whose frames keep freed tensors for a while
        import_module("torch._dynamo")
    meter = _StorageMeter()
    with watch_operators(meter.count):
        result = call()
    return result, meter.peak


class _StorageMeter:
    """Counts the bytes of storages that operators return, until they are freed."""

    def __init__(self) -> None:
        self.peak = 0
        self._alive = 0
        self._seen: set[int] = set()

    def count(self, function: Operator, args: Sequence[Any], kwargs: dict[str, Any], result: Any) -> None:
        """Count what an operator has allocated for its result."""
        if not allocates(function):
            return
        for made in tensors(result):
            address = _address(made)
            if address not in self._seen and all(_address(given) != address for given in tensors((args, kwargs))):
                self._add(made.untyped_storage())

    def _add(self, storage: torch.UntypedStorage) -> None:
        address, size = _identity(storage), storage.nbytes()
        self._seen.add(address)
        self._alive += size
        self.peak = max(self.peak, self._alive)
        weakref.finalize(storage, self._release, address, size)

    def _release(self, address: int, size: int) -> None:
        self._seen.discard(address)
        self._alive -= size


def _address(tensor: Tensor) -> int:
    return _identity(tensor.untyped_storage())


def _identity(storage: torch.UntypedStorage) -> int:
    return int(storage._cdata)  # noqa: SLF001  # unlike data_ptr, distinct for empty storages


@dataclass
class Saved:
    """Bytes kept for backward, each storage counted once."""

    bytes: int = 0


@contextmanager
def count_saved(without: Iterable[Tensor]) -> Iterator[Saved]:
    """Count what autograd saves inside the block, leaving out the storages of ``without`` (the weights)."""
    seen = {_address(tensor) for tensor in without}
    saved = Saved()

    def pack(tensor: Tensor) -> Tensor:
        if _address(tensor) not in seen:
            seen.add(_address(tensor))
            saved.bytes += tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        yield saved
