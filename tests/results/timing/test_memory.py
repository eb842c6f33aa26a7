"""Bytes of calls whose allocations are known."""

from __future__ import annotations

import platform
import subprocess
import sys
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from moebench.results.timing.memory import available_bytes, count_saved, give_back, peak

CPU = torch.device("cpu")
KB = 1000  # bytes of the tensors below


def kilobyte() -> Tensor:
    return torch.ones(KB // 4)


GIVEN = kilobyte()


def peak_of(call: Callable[[], object]) -> int:
    return peak(call, CPU)[1]


def test_the_result_is_passed_on() -> None:
    result, size = peak(lambda: (kilobyte(), "text"), CPU)
    assert torch.equal(result[0], kilobyte())
    assert result[1] == "text"
    assert size == KB


def grown() -> Tensor:
    """Three alive at once at the end."""
    one = kilobyte()
    two = one + 1
    return one * two


def freed() -> None:
    """Never more than one alive."""
    for _ in range(10):
        kilobyte()


def freed_early() -> Tensor:
    """Three alive in the middle, one at the end."""
    parts = [kilobyte() for _ in range(3)]
    parts.clear()
    return kilobyte()


def used_again() -> list[Tensor]:
    """Three alive, then five, some of them where the first ones were."""
    parts = [kilobyte() for _ in range(3)]
    parts.clear()
    return [kilobyte() for _ in range(5)]


def in_place() -> Tensor:
    return kilobyte().add_(1).mul_(GIVEN)


def out() -> Tensor:
    return torch.add(GIVEN, 1, out=kilobyte())


def views() -> tuple[Tensor, ...]:
    one = kilobyte()
    return (one.view(2, -1), one[3:], one.view(2, -1).T, one.expand(9, -1), *one.split(25), GIVEN[1:], GIVEN.detach())


def two_outputs() -> tuple[Tensor, Tensor]:
    """Values of 4 bytes and indices of 8."""
    values, indices = torch.sort(GIVEN)
    return values, indices


def trained() -> Tensor:
    """Return the result, which backward needs, and the gradient."""
    x = GIVEN.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(torch.tanh(x), [x], GIVEN)
    return gradient


@pytest.mark.parametrize(
    ("call", "size"),
    [
        (grown, 3 * KB),
        (freed, KB),
        (freed_early, 3 * KB),
        (used_again, 5 * KB),
        (in_place, KB),
        (out, KB),
        (views, KB),
        (two_outputs, 3 * KB),
        (trained, 2 * KB),
        (lambda: GIVEN.add_(0), 0),
        (lambda: None, 0),
        (lambda: torch.empty(0), 0),
    ],
    ids=lambda value: getattr(value, "__name__", str(value)),
)
def test_the_peak_is_what_is_alive_at_once(call: Callable[[], Any], size: int) -> None:
    assert [peak_of(call) for _ in range(3)] == [size] * 3


def test_what_was_there_before_does_not_count_even_when_freed_inside() -> None:
    before = [kilobyte()]

    def call() -> Tensor:
        before.clear()
        return kilobyte()

    assert peak_of(call) == KB


def test_an_error_inside_ends_the_counting() -> None:
    with pytest.raises(ZeroDivisionError):
        peak(lambda: 1 / 0, CPU)
    assert peak_of(kilobyte) == KB


def test_saved_storages_count_once_and_weights_not_at_all() -> None:
    x, w = kilobyte().requires_grad_(), kilobyte().requires_grad_()
    with count_saved(without=[w]) as saved:
        y = x * w  # keeps both
        assert saved.bytes == KB
        z = x * w.view(2, -1).flatten()  # the same storages again
        assert saved.bytes == KB
        torch.exp(y + z)  # keeps its result
    assert saved.bytes == 2 * KB


def test_without_weights_to_leave_out_all_counts() -> None:
    x, w = kilobyte().requires_grad_(), kilobyte()
    with count_saved(without=[]) as saved:
        _ = x * w
    assert saved.bytes == KB, "x needs w only"
    w.requires_grad_()
    with count_saved(without=[]) as saved:
        _ = x * w
    assert saved.bytes == 2 * KB


def test_the_whole_storage_of_a_saved_view_counts() -> None:
    x = kilobyte()
    weight = torch.ones(5, requires_grad=True)
    with count_saved(without=[weight]) as saved:
        _ = x[:5] * weight
    assert saved.bytes == KB


def test_nothing_is_saved_without_gradients_or_after_the_block() -> None:
    x = kilobyte().requires_grad_()
    with count_saved(without=[]) as saved:
        with torch.no_grad():
            _ = x * x
        _ = kilobyte() * 2
    _ = x * x
    assert saved.bytes == 0


def test_backward_works_on_what_was_counted() -> None:
    x = kilobyte().requires_grad_()
    with count_saved(without=[]):
        y = (x * x).sum()
    (gradient,) = torch.autograd.grad(y, [x])
    assert torch.equal(gradient, 2 * x)


def group(folder: Path, limit: str, used: int = 0, files: int = 0) -> Path:
    (folder / "memory.max").write_text(f"{limit}\n")
    (folder / "memory.current").write_text(f"{used}\n")
    (folder / "memory.stat").write_text(f"anon 5\ninactive_file {files}\nactive_file 7\n")
    return folder


@pytest.fixture
def meminfo(tmp_path: Path) -> Path:
    """1000 kB are available."""
    path = tmp_path / "meminfo"
    path.write_text("MemTotal:   9000 kB\nMemFree:   3 kB\nMemAvailable:   1000 kB\nBuffers: 8 kB\n")
    return path


def test_available_is_what_the_system_says(meminfo: Path, tmp_path: Path) -> None:
    assert available_bytes(CPU, meminfo, tmp_path) == 1024_000
    assert available_bytes(CPU, meminfo, group(tmp_path, "max")) == 1024_000


def test_available_is_less_under_a_limit_of_a_control_group(meminfo: Path, tmp_path: Path) -> None:
    """Files kept in memory are given back when it is asked for."""
    assert available_bytes(CPU, meminfo, group(tmp_path, "600000", used=500000)) == 100000
    assert available_bytes(CPU, meminfo, group(tmp_path, "600000", used=500000, files=300000)) == 400000
    assert available_bytes(CPU, meminfo, group(tmp_path, "99000000", used=500000)) == 1024_000


def test_a_system_that_does_not_tell_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "meminfo").write_text("MemTotal: 9000 kB\n")
    with pytest.raises(OSError, match="does not say MemAvailable"):
        available_bytes(CPU, tmp_path / "meminfo", tmp_path)


def test_this_machine_has_memory_left() -> None:
    assert 2**20 < available_bytes(CPU) < 2**50


FAULTS = """
import resource
import torch
from moebench.results.timing.memory import keep_freed_memory

kept = keep_freed_memory()
def allocate():
    for size in (20, 24, 28):
        torch.zeros(size << 20, dtype=torch.uint8)

for _ in range(3):
    allocate()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
allocate()
print(kept, resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc is told")
def test_freed_memory_is_not_asked_for_again() -> None:
    """A later call that allocates 72 MB finds most of its pages there: without, it may fault in all 18,432 of them."""
    run = subprocess.run([sys.executable, "-c", FAULTS], check=True, capture_output=True, text=True)
    kept, faults = run.stdout.split()
    assert kept == "True"
    assert int(faults) < 9216


FIRST = """
import gc
import torch
from moebench.results.timing.memory import peak

def forward():
    x = torch.ones(1000)
    y = x * 2
    return y.sum()

def call():
    forward()
    return torch.ones(3000)

gc.disable()
print(*(peak(call, torch.device("cpu"))[1] for _ in range(3)))
"""


def test_the_first_peak_of_a_process_is_that_of_any_other() -> None:
    run = subprocess.run([sys.executable, "-c", FIRST], check=True, capture_output=True, text=True)
    assert run.stdout.split() == ["12000"] * 3


class FakeAllocator:
    """A GPU of 100 bytes: others hold 30, and torch's allocator 60, of which tensors take 45."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.reserved, self.allocated = 60, 45
        patch.setattr(torch.cuda, "mem_get_info", lambda _: (70 - self.reserved, 100))
        patch.setattr(torch.cuda, "memory_reserved", lambda _: self.reserved)
        patch.setattr(torch.cuda, "memory_allocated", lambda _: self.allocated)
        patch.setattr(torch.cuda, "empty_cache", self.empty_cache)

    def empty_cache(self) -> None:
        self.reserved = self.allocated


class Holder:
    """Something that holds GPU memory until it is collected, as a graph of gradients that refers to itself."""

    def __init__(self, allocator: FakeAllocator) -> None:
        self.itself = self
        weakref.finalize(self, setattr, allocator, "allocated", 0)


def test_what_the_caching_allocator_holds_is_available(monkeypatch: pytest.MonkeyPatch) -> None:
    allocator = FakeAllocator(monkeypatch)
    assert available_bytes(torch.device("cuda", 0)) == 25
    allocator.allocated = 0
    assert available_bytes(torch.device("cuda", 0)) == 70


def test_what_nobody_uses_is_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    allocator = FakeAllocator(monkeypatch)
    Holder(allocator)
    give_back(torch.device("cuda", 0))
    assert torch.cuda.mem_get_info(0)[0] == 70
