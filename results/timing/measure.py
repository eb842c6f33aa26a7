"""The measurement protocol: competitors are sampled in turn until the stopping rule ends each."""

from __future__ import annotations

import random
import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from ..stats import spread
from .clock import Sample
from .stopping_rule import MAX_THROTTLED, MIN_SAMPLES, PLATEAU_CHANGE, PLATEAU_SAMPLES, SETTLED_SPREAD

Stop = Literal["settled", "plateau", "time_limit", "enough"]


@dataclass
class Samples:
    """The samples of one competitor so far: valid samples in ns, the count of throttled ones, and why it stopped.

    ``calls`` were timed together in each sample.
    """

    ns: list[float] = field(default_factory=list)
    throttled: int = 0
    calls: int = 1
    stopped: Stop | None = None
    _spreads: list[float] = field(default_factory=list)

    def add(self, sample: Sample, time_limit_ns: float, enough: int | None = None) -> None:
        """Keep a sample and decide whether it was the last one."""
        self.calls = sample.calls
        if sample.throttled:
            self.throttled += 1
        else:
            self.ns.append(sample.ns)
            self._spreads.append(spread(self.ns))
        if self.throttled >= MAX_THROTTLED:
            self.stopped = "time_limit"
        elif enough is not None and len(self.ns) >= enough:
            self.stopped = "enough"
        elif len(self.ns) >= MIN_SAMPLES:
            self.stopped = self._stop(time_limit_ns)

    def _stop(self, time_limit_ns: float) -> Stop | None:
        if self._spreads[-1] < SETTLED_SPREAD:
            return "settled"
        recent = self._spreads[-PLATEAU_SAMPLES:]
        if len(self.ns) >= 2 * PLATEAU_SAMPLES and max(recent) - min(recent) < PLATEAU_CHANGE * recent[-1]:
            return "plateau"
        return "time_limit" if self.calls * sum(self.ns) > time_limit_ns else None

    @property
    def median_ns(self) -> float:
        return statistics.median(self.ns)

    @property
    def stable(self) -> bool:
        """True if there are enough valid samples to quote, or as many as were asked for."""
        return self.stopped == "enough" or len(self.ns) >= MIN_SAMPLES


def measure(
    samplers: Mapping[str, Callable[[], Sample]], *, time_limit_s: float, enough: int | None = None
) -> dict[str, Samples]:
    """Take samples of every competitor in rounds, each round in a new order, until each has stopped.

    ``enough`` samples end a competitor early, where few samples suffice to tell slow from fast.

    ``time_limit_s`` bounds the timed seconds of one competitor once it has its minimum of samples. It counts the
    samples, not the wall, so that ranks which share their samples stop together.
    """
    results = {name: Samples() for name in samplers}
    shuffle = random.Random(0)  # noqa: S311  # an order of measurement, not a secret
    while running := [name for name, samples in results.items() if samples.stopped is None]:
        shuffle.shuffle(running)
        for name in running:
            results[name].add(samplers[name](), time_limit_s * 1e9, enough)
    return results
