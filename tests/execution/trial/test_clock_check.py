"""The check of the clocks reports the differences between our clock and others; a failure costs one comparison."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import ModuleType
from typing import get_args

import pytest
import torch
import triton.testing
from faulty_kernels import Name

from moebench.execution.trial import clock_check
from moebench.execution.trial.clock_check import BATCH, LONG, SHORT, Calls, ClockPair, Comparison, Skipped, check, pairs
from moebench.execution.workers.rank_setup import clocks_of, open_device
from moebench.kernels.problem import Problem
from moebench.kernels.problem.models import model
from moebench.results.record import CacheState
from moebench.results.timing.clock import Clock, ClockName, Ended, Sample, keep_nothing, rotation
from moebench.results.timing.disturbance import Watch

CPU = torch.device("cpu")
SHAPE = Problem(T=1, D=32, F=48, E=4, K=2)


class Steady:
    """Fake clock that makes the calls and says that each took two milliseconds."""

    name: ClockName = "cuda_event"

    def __init__(self, cache: CacheState, *, cache_bytes: int = 0, throttled: bool = False) -> None:
        self.cache = cache
        self._cache_bytes = cache_bytes
        self._throttled = throttled

    def copies(self, read_bytes: int) -> int:
        return rotation(self._cache_bytes, read_bytes)

    def prepare(self, calls: Sequence[Callable[[], object]], ended: Ended = keep_nothing) -> Callable[[], Sample]:
        for call in calls:
            call()
        return lambda: Sample(ns=2e6, throttled=self._throttled)

    def state(self) -> None:
        return None


def pair(clock: Steady, median_ms: Callable[[Calls], float], tokens: int = 4) -> ClockPair:
    return ClockPair(tokens=tokens, clock=clock, rival="the other", median_ms=median_ms)


def test_a_difference_is_ours_over_the_rivals() -> None:
    found, other = check(CPU, SHAPE, ["loop", "matmul"], [pair(Steady("cold"), lambda _: 1.6)])
    assert isinstance(other, Comparison)
    assert other.kernel == "matmul"
    assert isinstance(found, Comparison)
    assert (found.kernel, found.tokens, found.cache, found.rival) == ("loop", 4, "cold", "the other")
    assert found.difference == pytest.approx(0.25)


def test_what_fails_costs_its_own_comparison() -> None:
    """A kernel that is wrong, one that refuses, a rival that raises, and a device that is throttled."""

    def broken(_: Calls) -> float:
        raise RuntimeError("no such luck")

    good, bad = pair(Steady("cold"), lambda _: 1.0), pair(Steady("cold"), broken)
    throttled = pair(Steady("cold", throttled=True), lambda _: 1.0)
    found = list(check(CPU, SHAPE, [Name("OffInOneRow"), "triton_padded", "loop"], [good, bad, throttled]))
    reasons = [one.reason if isinstance(one, Skipped) else "" for one in found]
    assert len(reasons) == 9
    assert all("y is off by" in reason for reason in reasons[:3])
    assert all("capacity" in reason for reason in reasons[3:6])
    assert reasons[6] == ""
    assert reasons[7] == "RuntimeError: no such luck"
    assert "throttled" in reasons[8]


def test_both_get_the_same_calls_over_as_many_sets_as_the_clock_wants() -> None:
    got: list[int] = []

    def counted(calls: Calls) -> float:
        got.append(len(calls))
        return 1.0

    wide = SHAPE.replace(E=16)
    list(check(CPU, wide, ["loop"], [pair(Steady("hot", cache_bytes=100_000), counted, tokens=1)]))
    assert set(got) == {rotation(100_000, wide.replace(T=1).read_bytes(2))}


def test_on_a_gpu_every_clock_has_a_rival(monkeypatch: pytest.MonkeyPatch) -> None:
    """Triton's functions are given one round over all sets, and asked for the median; ours are per call."""
    asked: list[str] = []

    def timed(name: str) -> Callable[..., float]:
        def bench(once: Callable[[], None], *, return_mode: str) -> float:
            once()
            asked.append(f"{name} {return_mode}")
            return 6.0

        return bench

    module: ModuleType = triton.testing
    for name in ("do_bench", "do_bench_cudagraph"):
        monkeypatch.setattr(module, name, timed(name))
    monkeypatch.setattr(clock_check, "_written", lambda _: Steady("cold"))
    clocks: dict[CacheState, Clock] = {cache: Steady(cache) for cache in get_args(CacheState)}
    compared = pairs(torch.device("cuda"), clocks)
    assert [(one.tokens, one.clock.cache, one.rival) for one in compared] == [
        (LONG, "cold", "triton.testing.do_bench"),
        (LONG, "hot", "triton.testing.do_bench_cudagraph"),
        (SHORT, "eager", "torch.utils.benchmark"),
        (SHORT, "cold", "a flush that writes"),
        (BATCH, "cold", "a flush that writes"),
    ]
    sets = [lambda: None] * 3
    assert [one.median_ms(sets) for one in compared[:2]] == [2.0, 2.0]
    assert asked == ["do_bench median", "do_bench_cudagraph median"]
    assert [one.median_ms(sets) for one in compared[3:]] == [2.0, 2.0]


def test_a_cpu_has_an_eager_rival_and_a_flush_that_writes() -> None:
    """For real: torch's own timer and the eager clock time the same calls; a busy machine may part them severalfold."""
    found = list(check(CPU, SHAPE.replace(D=256, F=512), ["matmul", "loop"], pairs(CPU, clocks_of(CPU, Watch()))))
    assert [(one.kernel, one.tokens, one.rival) for one in found] == [
        (kernel, tokens, rival)
        for kernel in ("matmul", "loop")
        for tokens, rival in (
            (SHORT, "torch.utils.benchmark"),
            (SHORT, "a flush that writes"),
            (BATCH, "a flush that writes"),
        )
    ]
    for one in found:
        assert isinstance(one, Comparison)
        assert 1 / 10 < one.ours_ms / one.rival_ms < 10


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_gpu_has_a_rival_for_every_clock() -> None:
    """For real: nothing is skipped, and times of calls that are long enough agree with those of Triton."""
    device = open_device("cuda")
    shape = model("Mixtral-8x7B").problem(T=1, dtype="bfloat16").scaled(1024)
    found = list(check(device, shape, ["matmul", "triton_scatter"], pairs(device, clocks_of(device, Watch()))))
    assert len(found) == 10
    for one in found:
        assert isinstance(one, Comparison), one
        if one.tokens == LONG:
            assert 0.5 < one.ours_ms / one.rival_ms < 2
