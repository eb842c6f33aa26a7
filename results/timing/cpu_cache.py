"""Sizes of the caches of the cores that this process may use."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from ...common.cores import usable_cores

UNKNOWN_CACHE_BYTES: Final = 64 * 2**20  # where the system reports no size: at least the last level of a desktop CPU

_CPUS = Path("/sys/devices/system/cpu")


def last_level_cache_bytes(cpus: Path = _CPUS) -> int:
    """Return the total bytes of the usable cores' last-level caches; a cache that cores share counts once."""
    sizes: dict[tuple[int, str], int] = {}
    for core in usable_cores():
        for cache in (cpus / f"cpu{core}" / "cache").glob("index*"):
            level, shared_by, kind, size = (
                (cache / name).read_text().strip() for name in ("level", "shared_cpu_list", "type", "size")
            )
            if kind != "Instruction":
                sizes[int(level), shared_by] = int(size.removesuffix("K")) * 1024
    last = max((level for level, _ in sizes), default=0)
    return sum(size for (level, _), size in sizes.items() if level == last) or UNKNOWN_CACHE_BYTES
