"""The measurement protocol: competitors are sampled in turn until the stopping rule ends each.

Samples during which others used the cores are dropped. When most are, all competitors wait for quiet, a bounded time.
"""

from __future__ import annotations

import random
import statistics
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from ..stats import spread
from .clock import Sample
from .disturbance import Disturbance
from .stopping_rule import (
    DISTURBED_ROUNDS,
    MAX_DISTURBED,
    MAX_THROTTLED,
    MIN_SAMPLES,
    PLATEAU_CHANGE,
    PLATEAU_SAMPLES,
    QUIET_PAUSES_S,
    SETTLED_SPREAD,
    VALID_SHARE,
)

Stop = Literal["settled", "plateau", "time_limit", "enough"]


@dataclass
class Samples:
    """The samples of one competitor so far: valid samples in ns, the counts of dropped ones, and why it stopped.

    ``calls`` were timed together in each sample. ``disturbances`` counts samples by what disturbed them; ``watched`` is
    False where that is not known.
    """

    ns: list[float] = field(default_factory=list)
    throttled: int = 0
    disturbances: Counter[Disturbance] = field(default_factory=Counter)
    watched: bool = False
    calls: int = 1
    stopped: Stop | None = None
    _spreads: list[float] = field(default_factory=list)

    def add(self, sample: Sample, time_limit_ns: float, enough: int | None = None) -> None:
        """Keep a sample and decide whether it was the last one."""
        self.keep(sample)
        if sample.valid:
            self._spreads.append(spread(self.ns))
        if self.throttled >= MAX_THROTTLED or self.disturbed >= MAX_DISTURBED:
            self.stopped = "time_limit"
        elif enough is not None and len(self.ns) >= enough:
            self.stopped = "enough"
        elif len(self.ns) >= MIN_SAMPLES:
            self.stopped = self._stop(time_limit_ns)

    def keep(self, sample: Sample) -> None:
        """Keep a valid sample, count another one."""
        self.calls = sample.calls
        self.watched |= sample.disturbed is not None
        if sample.throttled:
            self.throttled += 1
        elif sample.disturbed:
            self.disturbances[sample.disturbed] += 1
        else:
            self.ns.append(sample.ns)

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
    def disturbed(self) -> int:
        """The number of samples that were dropped because something disturbed the host."""
        return self.disturbances.total()

    @property
    def enough(self) -> bool:
        """True if there are enough valid samples to quote, or as many as were asked for."""
        return self.stopped == "enough" or len(self.ns) >= MIN_SAMPLES

    @property
    def quiet(self) -> bool:
        """True if the valid samples are most of those that were not throttled."""
        return len(self.ns) >= VALID_SHARE * (len(self.ns) + self.disturbed)


class QuietWait:
    """Waits for quiet: pauses after rounds of samples of which half or more were disturbed.

    It counts samples alone, so that ranks which share their samples pause together, and give up together.
    """

    def __init__(self, pause: Callable[[float], object]) -> None:
        self._pause = pause
        self._pauses = iter(QUIET_PAUSES_S)
        self._rounds = 0

    def over(self, disturbed: int, samples: int) -> bool:
        """Note a round, and pause when it is one of several in a row; return whether no pause is left."""
        self._rounds = self._rounds + 1 if 2 * disturbed >= samples else 0
        if self._rounds < DISTURBED_ROUNDS:
            return False
        self._rounds = 0
        if (seconds := next(self._pauses, None)) is None:
            return True
        self._pause(seconds)
        return False


def measure(
    samplers: Mapping[str, Callable[[], Sample | None]],
    *,
    time_limit_s: float,
    enough: int | None = None,
    pause: Callable[[float], object] = time.sleep,
) -> dict[str, Samples]:
    """Take samples of every competitor in rounds, each round in a new order, until each has stopped.

    ``enough`` samples end a competitor early, where few samples suffice to tell slow from fast. One that returns no
    sample has withdrawn, and is left out of the result.

    ``time_limit_s`` bounds the timed seconds of one competitor once it has its minimum of samples. It counts the
    samples, not the wall, so that ranks which share their samples stop together. ``pause`` waits seconds for
    quiet; when no pause is left, all that are still running stop.
    """
    results = {name: Samples() for name in samplers}
    shuffle = random.Random(0)  # noqa: S311  # an order of measurement, not a secret
    quiet = QuietWait(pause)
    while running := [name for name, samples in results.items() if samples.stopped is None]:
        shuffle.shuffle(running)
        disturbed = 0
        for name in running:
            if (sample := samplers[name]()) is None:
                del results[name]
                continue
            disturbed += bool(sample.disturbed)
            results[name].add(sample, time_limit_s * 1e9, enough)
        if quiet.over(disturbed, len(running)):
            for samples in results.values():
                samples.stopped = samples.stopped or "time_limit"
    return results
