"""Launches: a recorded launch is not run, and a kernel that needs scratch memory finds it in any thread."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch

pytest.importorskip("triton")

from triton.runtime import _allocation

from moebench.kernels.instruments.launch_counter import count_launches
from moebench.kernels.triton.launch import launch, recording


class Kernel:
    """A stand-in for a compiled kernel: it records its arguments, and the allocator that Triton would call."""

    def __init__(self) -> None:
        self.__name__ = "stand_in"
        self.starts: list[tuple[Any, ...]] = []
        self.allocators: list[Any] = []

    def __getitem__(self, grid: tuple[int, ...]) -> Any:
        def start(*arguments: Any, **options: Any) -> None:
            self.starts.append((grid, arguments, options))
            self.allocators.append(_allocation._allocator.get())

        return start


def test_a_start_passes_programs_arguments_and_options() -> None:
    kernel = Kernel()
    launch(kernel, 7, "x", warps=8, stages=3, BLOCK=16)
    ((grid, arguments, options),) = kernel.starts
    assert (grid, arguments) == ((7,), ("x",))
    assert (options["num_warps"], options["num_stages"], options["BLOCK"]) == (8, 3, 16)


def test_kernel_and_driver_are_told_of_a_dependent_launch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Kernel and driver must agree: a kernel that starts early and does not wait would read unwritten memory."""
    monkeypatch.setattr("moebench.kernels.triton.launch.INTERPRETED", False)
    kernel = Kernel()
    for pdl in (True, False):
        launch(kernel, 1, pdl=pdl)
    launch(kernel, 1)
    early, late, unaware = (options for _, _, options in kernel.starts)
    assert (early["PDL"], early["launch_pdl"]) == (True, True)
    assert late["PDL"] is False
    assert "launch_pdl" not in late
    assert not {"PDL", "launch_pdl"} & unaware.keys()


def test_no_programs_are_no_start() -> None:
    kernel = Kernel()
    with recording() as launches:
        launch(kernel, 0)
    launch(kernel, 0)
    assert not kernel.starts
    assert not launches


def test_starts_are_counted_by_name_in_whatever_thread() -> None:
    """A backward on a GPU starts kernels from a thread of autograd; recorded launches do not count as started."""
    kernel = Kernel()
    launch(kernel, 1)
    with count_launches() as outer, ThreadPoolExecutor(1) as pool:
        launch(kernel, 1)
        with count_launches() as inner:
            pool.submit(launch, kernel, 1).result()
        launch(kernel, 0)
        with recording():
            launch(kernel, 1)
    assert (outer, inner) == ({"stand_in": 2}, {"stand_in": 1})


def test_what_is_recorded_is_not_run() -> None:
    kernel = Kernel()
    with recording() as launches:
        launch(kernel, 2, torch.empty(1), warps=4)
    assert kernel.starts == []
    assert [(found.programs, found.warps) for found in launches] == [(2, 4)]
    launch(kernel, 2)
    assert len(kernel.starts) == 1, "recording ends with its block"


def test_a_kernel_finds_memory_in_any_thread_and_users_keep_their_allocator() -> None:
    """Backward runs in a thread of autograd, where an allocator set elsewhere is not seen."""
    kernel, before = Kernel(), _allocation._allocator.get()
    with ThreadPoolExecutor(1) as pool:
        pool.submit(launch, kernel, 1).result()
    assert not isinstance(kernel.allocators[0], _allocation.NullAllocator)
    assert _allocation._allocator.get() is before
