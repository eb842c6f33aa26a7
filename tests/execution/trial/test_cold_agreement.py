"""Times with rotation and with a flush agree: the same calls by both clocks, alternating in one process."""

from __future__ import annotations

import statistics
from functools import partial

import pytest
import torch

from moebench.execution.trial.reference_check import ReferenceCheck, Subject, call
from moebench.execution.workers.rank_setup import open_device
from moebench.kernels.catalog import KERNELS
from moebench.kernels.problem import Mode, Problem
from moebench.kernels.problem.tensors import draw_weights
from moebench.results.timing import cpu_clock
from moebench.results.timing.clock import CallBytes
from moebench.results.timing.cpu_clock import CpuClock, RotatingCpuClock
from moebench.results.timing.memory import peak

AGREED = 0.02
TURNS, BLOCK = 25, 8  # samples of one clock in a row: more than there are sets, so that rotation meets its own traces
SHAPE = Problem(T=512, D=384, F=1344, E=8, K=2)  # calls read 50 MB and take 25 to 90 ms on two cores


def difference(kernel_name: str, problem: Problem, cache_bytes: int) -> tuple[float, float]:
    """Return how much longer calls take with rotation than after a flush, relatively, and the milliseconds of these.

    The ratio is the median of the ratios of neighbouring blocks, so that what drifts hits both.
    """
    device, kernel = open_device("cpu"), KERNELS.load(kernel_name)
    layer = kernel.build(problem, kernel.space(problem, device)[0], device)
    weights = draw_weights(problem, seed=0, device=device)
    check = ReferenceCheck.draw(Subject(problem, kernel.question), weights, seed=1, device=device)
    _, workspace_bytes = peak(lambda: call(problem, layer, check.inputs), device)
    flushed = CpuClock()
    assert flushed._cache_bytes == cache_bytes
    rotated = flushed.fitted(
        CallBytes(
            read_bytes=problem.read_bytes(check.kept.touched()),
            held_bytes=problem.input_bytes,
            workspace_bytes=workspace_bytes,
            available_bytes=16 << 30,
            samples=140,
        )
    )
    assert isinstance(rotated, RotatingCpuClock)
    sets = check.copies(problem, rotated.copies(0))
    calls = [partial(call, problem, layer, inputs) for inputs in sets]
    samplers = flushed.prepare(calls[:1]), rotated.prepare(calls)
    pairs = [
        [statistics.median([sampler().ns for _ in range(BLOCK)][1:]) for sampler in samplers] for _ in range(TURNS)
    ]
    return statistics.median(ours / theirs for theirs, ours in pairs) - 1, statistics.median(p[0] for p in pairs) / 1e6


@pytest.mark.slow
@pytest.mark.parametrize("cache_mib", [32, 480])
@pytest.mark.parametrize("mode", ["forward", "train"])
@pytest.mark.parametrize("kernel", ["scatter", "grouped", "padded"])
def test_rotation_and_flush_agree(kernel: str, mode: Mode, cache_mib: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Slow: it measures. It needs a quiet machine, for which run it alone."""
    monkeypatch.setattr(cpu_clock, "last_level_cache_bytes", lambda: cache_mib << 20)
    threads = torch.get_num_threads()
    try:
        found, ms = difference(kernel, SHAPE.replace(mode=mode), cache_mib << 20)
    finally:
        torch.set_num_threads(threads)
    print(f"\n{cache_mib} MiB {mode} {kernel}: {ms:.2f} ms after a flush, rotation {found:+.2%}")  # noqa: T201  # figures
    assert abs(found) <= AGREED
