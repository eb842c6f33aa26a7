"""Joules of one run of something short, from a counter that moves less often than it runs."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

ENERGY_MS: Final = 500.0  # a GPU's counter moves every 20 to 100 ms; this sees several of its ticks
ENERGY_BATCH_MS: Final = 10.0  # reading the counter takes well under 1 % of this, so the device is never idle for long
LEAST_BATCHES: Final = 3  # before the first of two ticks, between them, and none to spare
UNCERTAIN: Final = 20
"""How many times longer than what is not known of the moments of two ticks the time between them is: 5 %."""


def joules_per_run(
    run: Callable[[int], object], ms: float, read: Callable[[], float | None], *, tick_ms: float
) -> float | None:
    """Return the joules of one run, counted between two ticks of the counter that ``read`` reads.

    ``run`` runs so many times and waits for the device; one run takes about ``ms`` milliseconds, by which alone it is
    decided how often to run: for `ENERGY_MS`, and longer where a run or a tick is long. Returns None where the counter
    does not tick twice.
    """
    batch = math.ceil(ENERGY_BATCH_MS / ms)
    batch_ms = batch * ms
    # When a tick came is known to a batch; that a reading was late, to a tick.
    between_ms = max(ENERGY_MS - batch_ms, UNCERTAIN * min(tick_ms, batch_ms))
    batches = max(LEAST_BATCHES, 1 + math.ceil(between_ms / batch_ms))
    readings: list[tuple[float, int]] = []
    for runs in range(batch, batch * batches + 1, batch):
        run(batch)
        joules = read()
        if joules is not None and (not readings or joules != readings[-1][0]):
            readings.append((joules, runs))
    ticks = readings[1:]  # the first is no tick
    if len(ticks) < 2:
        return None
    (first_j, first), (last_j, last) = ticks[0], ticks[-1]
    return (last_j - first_j) / (last - first)
