"""The machine's rates: from the fastest try, measured once, and never lowered by a doubt."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest
import torch

from moebench.results import machine as machine_module
from moebench.results.machine import MIN_TRIES, Machine

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Matmuls and copies that take microseconds."""
    monkeypatch.setattr(machine_module, "MATMULS", {"cpu": ((8, 16, 32), (4, 4, 4))})
    monkeypatch.setattr(machine_module, "COPY_BYTES", {"cpu": 4096})
    monkeypatch.setattr(machine_module, "PROBE_S", 1e-4)


def script(machine: Machine, monkeypatch: pytest.MonkeyPatch, seconds: list[float]) -> None:
    """Let measurements take these seconds in turn: both matmuls and the copy of each round."""
    turns = iter(seconds)
    monkeypatch.setattr(machine, "_fastest", lambda _: next(turns))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
def test_real_rates_are_positive(dtype: torch.dtype) -> None:
    roofline = Machine(CPU).roofline(dtype)
    assert 0 < roofline.flops_per_s < 1e18
    assert 0 < roofline.bytes_per_s < 1e15


def test_rates_are_flops_of_the_fastest_shape_and_bytes_read_and_written(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(CPU)
    script(machine, monkeypatch, [2.0, 4.0, 0.5])
    roofline = machine.roofline(torch.float32)
    assert roofline.flops_per_s == 2 * 8 * 16 * 32 / 2.0
    assert roofline.bytes_per_s == 2 * 4096 / 0.5


def test_a_dtype_is_measured_once(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(CPU)
    script(machine, monkeypatch, [2.0, 4.0, 0.5, 1.0, 4.0, 2.0, 4.0, 0.5])
    first = machine.roofline(torch.float32)
    assert machine.roofline(torch.float32) is first
    assert machine.roofline(torch.float16).flops_per_s == 2 * first.flops_per_s
    assert machine.roofline(torch.float32) is first


def test_a_wider_dtype_counts_where_it_is_faster(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both matmuls in float16, both in float32, and the copy: no implementation has to multiply in the slow one."""
    machine = Machine(CPU)
    script(machine, monkeypatch, [8.0, 9.0, 2.0, 4.0, 0.5])
    assert machine.roofline(torch.float16).flops_per_s == 2 * 8 * 16 * 32 / 2.0


def test_a_doubt_keeps_the_better_of_each_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first doubt finds slower products and faster copies, the second the reverse."""
    machine = Machine(CPU)
    script(machine, monkeypatch, [2.0, 9.0, 0.5, 4.0, 9.0, 0.25, 1.0, 9.0, 1.0])
    first = machine.roofline(torch.float32)
    second, third = machine.doubt(torch.float32), machine.doubt(torch.float32)
    assert (second.flops_per_s, second.bytes_per_s) == (first.flops_per_s, 2 * first.bytes_per_s)
    assert (third.flops_per_s, third.bytes_per_s) == (2 * first.flops_per_s, 2 * first.bytes_per_s)
    assert machine.roofline(torch.float32) == third


def ticks(seconds: list[float]) -> Iterator[float]:
    """Readings of a clock before and after calls that take these seconds."""
    for one in seconds:
        yield 0.0
        yield one


@pytest.mark.parametrize(
    ("seconds", "tries"),
    [([9.0, 1.0, 3.0], MIN_TRIES), ([4e-5, 2e-5, 3e-5, 2e-5], 4)],
    ids=["long", "short"],
)
def test_the_fastest_try_counts_after_a_call_that_is_not_timed(
    monkeypatch: pytest.MonkeyPatch, seconds: list[float], tries: int
) -> None:
    """At least three tries, and as many as fill the time."""
    readings = ticks([*seconds, *[1e-9] * 9])
    monkeypatch.setattr(time, "perf_counter", lambda: next(readings))
    calls: list[None] = []
    call: Callable[[], None] = lambda: calls.append(None)  # noqa: E731
    assert Machine(CPU)._fastest(call) == min(seconds)
    assert len(calls) == 1 + tries


def test_without_products_of_float8_the_faster_of_the_wider_ones_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both matmuls in bfloat16, both in float32, and the copy."""
    machine = Machine(CPU)
    script(machine, monkeypatch, [4.0, 9.0, 2.0, 9.0, 0.5])
    assert machine.roofline(torch.float8_e4m3fn).flops_per_s == 2 * 8 * 16 * 32 / 2.0


def test_products_of_float8_are_measured_where_there_are_any(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a CPU torch has slow ones, which serve to see that the call is right."""
    monkeypatch.setattr(machine_module, "MATMULS", {"cpu": ((16, 32, 16),)})
    monkeypatch.setattr(machine_module, "multiplies_float8", lambda _: True)
    assert 0 < Machine(CPU).roofline(torch.float8_e4m3fn).flops_per_s < 1e18
