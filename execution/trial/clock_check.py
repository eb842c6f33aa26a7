"""Check of the clocks of a device: the same calls timed by moebench, other projects, and after a writing flush."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

import torch
from torch.utils.benchmark import Timer

from ...common.errors import in_one_line
from ...kernels.catalog import KERNELS
from ...kernels.kernel import Kernel
from ...kernels.problem import Problem
from ...kernels.problem.tensors import draw_weights
from ...results.record import CacheState
from ...results.timing.clock import Clock, Flush
from ...results.timing.cpu_cache import last_level_cache_bytes
from ...results.timing.cpu_clock import CpuClock
from ...results.timing.cuda_clock import ColdCudaClock, TorchCudaDevice
from ...results.timing.nvml import connect
from .checks.accuracy import verdict
from .reference_check import ReferenceCheck, Subject, call

SAMPLES: Final = 15  # of our clock in one turn; other projects decide for themselves
TURNS: Final = 3  # in which the two clocks alternate, so that a slow moment hits both
TIMER_S: Final = 0.2  # seconds of calls by torch's timer in one turn
LONG, SHORT, BATCH = 4096, 1, 64
"""Tokens of a call that is much longer than its launch, and of two decode steps."""

Calls = Sequence[Callable[[], object]]

Rival = Callable[[Calls], float]
"""Returns the median milliseconds of one of the calls."""


@dataclass(frozen=True, kw_only=True)
class ClockPair:
    """Two ways to time calls on ``tokens`` tokens: a clock of moebench, and a rival by name."""

    tokens: int
    clock: Clock
    rival: str
    median_ms: Rival


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Milliseconds of one call by two clocks, each the median of the turns; ``cache`` is that of our clock."""

    kernel: str
    tokens: int
    cache: CacheState
    ours_ms: float
    rival: str
    rival_ms: float

    @property
    def difference(self) -> float:
        """Relative difference: our time over the time of the rival, minus 1."""
        return self.ours_ms / self.rival_ms - 1


@dataclass(frozen=True, kw_only=True)
class Skipped:
    """A comparison that could not be made, and why."""

    kernel: str
    tokens: int
    rival: str
    reason: str


def pairs(device: torch.device, clocks: Mapping[CacheState, Clock]) -> list[ClockPair]:
    """Return the pairs to compare on a device. On a CPU no other project flushes caches, and there are no graphs."""
    written = by_clock(_written(device))
    found = [
        ClockPair(tokens=SHORT, clock=clocks["eager"], rival="torch.utils.benchmark", median_ms=_by_timer),
        *(
            ClockPair(tokens=T, clock=clocks["cold"], rival="a flush that writes", median_ms=written)
            for T in (SHORT, BATCH)
        ),
    ]
    if device.type == "cpu":
        return found
    return [
        ClockPair(tokens=LONG, clock=clocks["cold"], rival="triton.testing.do_bench", median_ms=_by_do_bench),
        ClockPair(tokens=LONG, clock=clocks["hot"], rival="triton.testing.do_bench_cudagraph", median_ms=_by_cudagraph),
        *found,
    ]


def check(
    device: torch.device, shape: Problem, kernels: Sequence[str], compared: Sequence[ClockPair]
) -> Iterator[Comparison | Skipped]:
    """Compare for every kernel, in its default configuration, on the shape with each pair's tokens.

    The call of a kernel is checked against the reference before it is timed.
    """
    for name in kernels:
        for pair in compared:
            try:
                yield _compared(KERNELS.load(name), shape.replace(T=pair.tokens), device, pair)
            except Exception as error:  # noqa: BLE001  # a kernel or a rival that raises costs this comparison alone
                yield Skipped(kernel=name, tokens=pair.tokens, rival=pair.rival, reason=in_one_line(error))


def by_clock(clock: Clock) -> Rival:
    """Return a rival that times with a clock of moebench."""
    return lambda calls: _median_ms(clock, calls)


def _compared(kernel: Kernel, asked: Problem, device: torch.device, pair: ClockPair) -> Comparison:
    clock = pair.clock
    calls = _checked_calls(kernel, asked, device, clock)
    turns = [(_median_ms(clock, calls), pair.median_ms(calls)) for _ in range(TURNS)]
    ours, rivals = zip(*turns, strict=True)
    return Comparison(
        kernel=kernel.name,
        tokens=asked.T,
        cache=clock.cache,
        ours_ms=statistics.median(ours),
        rival=pair.rival,
        rival_ms=statistics.median(rivals),
    )


def _checked_calls(kernel: Kernel, asked: Problem, device: torch.device, clock: Clock) -> Calls:
    """Return calls of a layer whose result was right, one for each set of inputs that the clock wants.

    Raises:
        ValueError: when the kernel refuses the problem, or is wrong.
    """
    if refusal := kernel.supports(asked, device):
        raise ValueError(refusal)
    problem = kernel.solves(asked)
    layer = kernel.build(problem, kernel.space(problem, device)[0], device)
    weights = draw_weights(problem, seed=problem.seed, device=device)
    checked = ReferenceCheck.draw(Subject(problem, kernel.question), weights, seed=problem.seed + 1, device=device)
    if wrong := verdict(checked.grade(lambda: call(problem, layer, checked.inputs)), problem.rounding):
        raise ValueError(wrong)
    sets = checked.copies(problem, clock.copies(problem.read_bytes(checked.kept.touched())))
    return [partial(call, problem, layer, inputs) for inputs in sets]


def _median_ms(clock: Clock, calls: Calls) -> float:
    sample = clock.prepare(calls)
    valid = [taken.ns for taken in (sample() for _ in range(SAMPLES)) if taken.valid]
    if not valid:
        raise ValueError(f"the device was throttled or the host disturbed in all of {SAMPLES} samples")
    return statistics.median(valid) / 1e6


def _round(calls: Calls) -> Callable[[], None]:
    """Return a function that makes every call once."""

    def once() -> None:
        for one in calls:
            one()

    return once


def _by_do_bench(calls: Calls) -> float:
    from triton.testing import do_bench  # noqa: PLC0415  # Triton may be missing

    return float(do_bench(_round(calls), return_mode="median")) / len(calls)


def _by_cudagraph(calls: Calls) -> float:
    from triton.testing import do_bench_cudagraph  # noqa: PLC0415  # Triton may be missing

    return float(do_bench_cudagraph(_round(calls), return_mode="median")) / len(calls)


def _by_timer(calls: Calls) -> float:
    timer = Timer("once()", globals={"once": _round(calls)}, num_threads=torch.get_num_threads())
    return 1e3 * timer.blocked_autorange(min_run_time=TIMER_S).median / len(calls)


class _WritingFlush(Flush):
    """A flush that leaves dirty lines, which have to be written back when the next call loads its lines."""

    def __call__(self) -> None:
        self._buffer.zero_()


class _WrittenDevice(TorchCudaDevice):
    def __init__(self) -> None:
        super().__init__()
        self._flush = _WritingFlush(self.l2_bytes, "cuda")


def _written(device: torch.device) -> Clock:
    """Return the cold clock with a flush that writes."""
    if device.type == "cuda":
        return ColdCudaClock(_WrittenDevice(), connect(device.index))
    clock = CpuClock()
    clock.flush = _WritingFlush(last_level_cache_bytes(), "cpu")
    return clock
