"""The points of suites as benchmarks of pytest: `pytest suites --benchmark-only -k scatter --benchmark-compare`.

They are planned and measured as by `moebench run`: point by point in worker processes, the selected kernels checked,
interleaved, timed until the noise settles, and checked again. pytest-benchmark then gets the samples and computes its
statistics; its options for rounds, time, warm-up and timer change nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import pytest

from moebench.results.benchmark_names import extra_info, group_of
from moebench.results.record import Record

if TYPE_CHECKING:
    from pytest_benchmark.fixture import BenchmarkFixture


class Replay:
    """A stopwatch that is advanced by samples that were taken before."""

    def __init__(self) -> None:
        self._samples: Iterator[float] = iter(())
        self._now_s = 0.0

    def read_s(self) -> float:
        """Return the seconds on the stopwatch, as the timer of the benchmark."""
        return self._now_s

    def show(self, benchmark: BenchmarkFixture, samples_ns: list[float]) -> None:
        """Run a benchmark with these samples, one in each round."""
        self._samples = iter(samples_ns)
        benchmark.pedantic(self._pass, setup=self._rewind, rounds=len(samples_ns))

    def _rewind(self) -> None:
        self._now_s = 0.0  # so that the difference of two readings is the sample to its last digit

    def _pass(self) -> None:
        self._now_s = next(self._samples) / 1e9


replay = Replay()


@pytest.mark.benchmark(timer=replay.read_s)
@pytest.mark.filterwarnings("ignore:Benchmark fixture was not used at all")  # what did not pass has no time
def test_dispatch(
    benchmark: BenchmarkFixture,
    measure: Callable[[str, str, int | None], dict[str, Record]],
    suite: str,
    place: str,
    kernel: str,
) -> None:
    record = measure(suite, place, 1 if benchmark.disabled else None)[kernel]
    if record.status.bad:
        pytest.fail(f"{record.status.value}: {record.reason}", pytrace=False)
    if record.timing is None:
        pytest.skip(f"{record.status.value}: {record.reason}")
    benchmark.group = group_of(suite, place)
    benchmark.extra_info.update(extra_info(record))
    replay.show(benchmark, record.timing.samples_ns)
