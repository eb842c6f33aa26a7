"""Noise between equal processes: with known distributions, or as recorded."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from statistics import median
from typing import Final

import numpy as np
from numpy.typing import NDArray

from moebench.results.record import Record
from moebench.results.regression.grouping import points
from moebench.results.stats import spread

SAMPLES: Final = 15  # of each process
STRETCH: Final = 8  # consecutive processes that are drawn together: four pairs
WITHIN: Final = 0.01  # standard deviation of the logarithms of a process's samples

Array = NDArray[np.float64]
Generator = np.random.Generator
Noise = Callable[[Generator, int, range], Array]
"""Draws logarithms of samples, (points, processes, `SAMPLES`), for a number of points and a range of processes."""


class TooFew(ValueError):
    """Error: too few records to estimate the noise."""


def _from(between: Callable[[Generator, int, range], Array]) -> Noise:
    """Return noise between processes, (points, processes), with the noise of their samples added."""

    def noise(generator: Generator, count: int, turns: range) -> Array:
        of_samples = generator.normal(0, WITHIN, (count, len(turns), SAMPLES))
        return between(generator, count, turns)[..., None] + of_samples

    return noise


def _normal(share: float) -> Noise:
    return _from(lambda generator, count, turns: generator.normal(0, share, (count, len(turns))))


@_from
def _bimodal(generator: Generator, count: int, turns: range) -> Array:
    return generator.normal(0, 0.005, (count, len(turns))) + 0.04 * generator.integers(0, 2, (count, len(turns)))


@_from
def _drifting(generator: Generator, count: int, turns: range) -> Array:
    return generator.normal(0, 0.01, (count, len(turns))) + 0.004 * (np.asarray(turns) // 2)


@_from
def _outliers(generator: Generator, count: int, turns: range) -> Array:
    return generator.normal(0, 0.01, (count, len(turns))) + 0.3 * (generator.random((count, len(turns))) < 1 / 20)


SHAPES: Final[Mapping[str, Noise]] = {
    "0.5 %": _normal(0.005),
    "2 %": _normal(0.02),
    "5 %": _normal(0.05),
    "two modes, 4 % apart": _bimodal,
    "1 %, and a drift of 0.4 % a pair": _drifting,
    "1 %, and one process in 20 slower by 30 %": _outliers,
}


def recorded(records: Sequence[Record]) -> Noise:
    """Return the noise of equal processes that were measured in pairs; every point gets that of a recorded one.

    It is drawn in stretches of four pairs, which keeps disturbances that last longer than a pair.

    Raises:
        TooFew: when a point has fewer than `STRETCH` processes.
    """
    series = [_logs(found) for found in points(records)[0].values()]
    length = min(map(len, series), default=0)
    if length < STRETCH:
        raise TooFew(f"{length} processes of a point are recorded, {STRETCH} are needed: record more")
    logs = np.stack([one[:length] for one in series])

    def noise(generator: Generator, count: int, turns: range) -> Array:
        of_point = generator.integers(len(logs), size=(count, 1))
        stretches = -(-len(turns) // STRETCH)
        starts = 2 * generator.integers((length - STRETCH) // 2, size=(count, stretches), endpoint=True)
        of_turn = (starts[..., None] + np.arange(STRETCH)).reshape(count, -1)[:, : len(turns)]
        found: Array = logs[of_point, of_turn]
        return found

    return noise


def spreads(records: Sequence[Record]) -> tuple[list[float], list[float]]:
    """Return the relative spread, at every point, of the medians of processes and of the ratios of pairs."""
    (found,) = points(records)
    times = [[median(one.timing.samples_ns) for one in alike if one.timing] for alike in found.values()]
    return [spread(one) for one in times], [
        spread([new / old for old, new in zip(one[::2], one[1::2], strict=False)]) for one in times
    ]


def _logs(records: Sequence[Record]) -> Array:
    """Return logarithms of the first samples of every process, (processes, `SAMPLES`), with a median of 0."""
    logs: Array = np.log([np.resize(record.timing.samples_ns, SAMPLES) for record in records if record.timing])
    return logs - np.median(logs)
