"""Cache sizes: what the system describes, each shared cache once, and a documented default where it describes none."""

from __future__ import annotations

from pathlib import Path

import pytest

from moebench.results.timing import cpu_cache
from moebench.results.timing.cpu_cache import UNKNOWN_CACHE_BYTES, last_level_cache_bytes


def _cache(folder: Path, *, level: int, kind: str, size: str, shared_by: str) -> None:
    folder.mkdir(parents=True)
    texts = {"level": str(level), "type": kind, "size": size, "shared_cpu_list": shared_by}
    for name, text in texts.items():
        (folder / name).write_text(text + "\n")


def test_last_level_caches_are_added_up_once_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three cores, two of which share an L3: two L3, no smaller level, no instruction cache."""
    monkeypatch.setattr(cpu_cache, "usable_cores", lambda: [0, 1, 2])
    for core, shared_by in ((0, "0-1"), (1, "0-1"), (2, "2-3"), (3, "2-3"), (4, "4")):
        caches = tmp_path / f"cpu{core}" / "cache"
        _cache(caches / "index0", level=1, kind="Data", size="48K", shared_by=str(core))
        _cache(caches / "index1", level=4, kind="Instruction", size="999K", shared_by=str(core))
        _cache(caches / "index3", level=3, kind="Unified", size="32768K", shared_by=shared_by)
    assert last_level_cache_bytes(tmp_path) == 2 * 32 * 2**20


def test_unknown_cache_size(tmp_path: Path) -> None:
    """Without a size from the system there is a documented default."""
    assert last_level_cache_bytes(tmp_path) == UNKNOWN_CACHE_BYTES
