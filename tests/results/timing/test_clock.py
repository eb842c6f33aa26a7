"""The CPU clock: the order of a sample, what it leaves as it was, and how large the caches are taken to be."""

from __future__ import annotations

import gc
import time
from pathlib import Path

import pytest

from moebench.results.timing import clock as clock_module
from moebench.results.timing.clock import (
    FLUSH_FACTOR,
    UNKNOWN_CACHE_BYTES,
    WARM_UPS,
    Clock,
    CpuClock,
    last_level_cache_bytes,
    no_garbage_collection,
)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> CpuClock:
    """Return the clock of a machine with a small cache, so that the tests are fast."""
    monkeypatch.setattr(clock_module, "last_level_cache_bytes", lambda: 2**16)
    return CpuClock()


def test_order_of_a_sample(clock: CpuClock, monkeypatch: pytest.MonkeyPatch) -> None:
    """Flush, wait for the others, read, call, read; the result is freed outside, and the sample is the difference."""
    log: list[str] = []
    now = iter([100, 1234])

    class Result:
        def __del__(self) -> None:
            log.append("free")

    def call() -> Result:
        log.append("call")
        return Result()

    def read() -> int:
        log.append("read")
        return next(now)

    sample = clock.prepare([call])
    log.clear()
    monkeypatch.setattr(clock, "flush", lambda: log.append("flush"))
    monkeypatch.setattr(clock, "_together", lambda: log.append("together"))
    monkeypatch.setattr(time, "perf_counter_ns", read)
    taken = sample()
    assert log == ["flush", "together", "read", "call", "read", "free"]
    assert (taken.ns, taken.throttled) == (1134.0, False)


def test_flush_reads_twice_the_cache_without_writing(clock: CpuClock) -> None:
    """The buffer has the size asked for, is made of written pages, and is the same after a flush."""
    assert clock.flush._buffer.nbytes == FLUSH_FACTOR * 2**16
    version = clock.flush._buffer._version
    clock.flush()
    assert clock.flush._buffer._version == version
    assert bool((clock.flush._buffer == 1).all())


def test_sample_contains_the_whole_call(clock: CpuClock) -> None:
    """A call that sleeps five milliseconds takes at least that long."""
    assert clock.prepare([lambda: time.sleep(0.005)])().ns >= 5e6


def test_prepare_warms_up_and_samples_take_turns(clock: CpuClock) -> None:
    """Every call is warmed up; then each sample is one call, in turn."""
    log: list[str] = []
    sample = clock.prepare([lambda: log.append("a"), lambda: log.append("b")])
    assert sorted(log) == ["a"] * WARM_UPS + ["b"] * WARM_UPS
    log.clear()
    for _ in range(3):
        sample()
    assert log == ["a", "b", "a"]


def test_it_is_a_cold_clock_without_a_device(clock: CpuClock) -> None:
    """The clock needs one set of buffers and knows no device state."""
    general: Clock = clock
    assert (general.name, general.cache, general.copies(1), general.state()) == ("perf_counter", "cold", 1, None)


def test_no_garbage_collection_in_a_sample(clock: CpuClock) -> None:
    """The collector is off during the call and on again afterwards."""
    seen: list[bool] = []
    sample = clock.prepare([lambda: seen.append(gc.isenabled())])
    seen.clear()
    sample()
    assert seen == [False]
    assert gc.isenabled()


def test_garbage_collection_is_left_as_it_was() -> None:
    """On again after an error; off still where it was off."""
    with pytest.raises(ZeroDivisionError), no_garbage_collection():
        _ = 1 / 0
    assert gc.isenabled()
    gc.disable()
    try:
        with no_garbage_collection():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()


def _cache(folder: Path, *, level: int, kind: str, size: str, shared_by: str) -> None:
    folder.mkdir(parents=True)
    texts = {"level": str(level), "type": kind, "size": size, "shared_cpu_list": shared_by}
    for name, text in texts.items():
        (folder / name).write_text(text + "\n")


def test_last_level_caches_are_added_up_once_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three cores, two of which share an L3: two L3, no smaller level, no instruction cache."""
    monkeypatch.setattr(clock_module, "usable_cores", lambda: [0, 1, 2])
    for core, shared_by in ((0, "0-1"), (1, "0-1"), (2, "2-3"), (3, "2-3"), (4, "4")):
        caches = tmp_path / f"cpu{core}" / "cache"
        _cache(caches / "index0", level=1, kind="Data", size="48K", shared_by=str(core))
        _cache(caches / "index1", level=4, kind="Instruction", size="999K", shared_by=str(core))
        _cache(caches / "index3", level=3, kind="Unified", size="32768K", shared_by=shared_by)
    assert last_level_cache_bytes(tmp_path) == 2 * 32 * 2**20


def test_unknown_cache_size(tmp_path: Path) -> None:
    """Without a size from the system there is a documented default."""
    assert last_level_cache_bytes(tmp_path) == UNKNOWN_CACHE_BYTES
