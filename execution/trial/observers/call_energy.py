"""Energy of a call: joules of calls back to back, by the counters of the devices of all ranks."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from ....results.record import Clocks
from ....results.timing.clock import no_garbage_collection
from ....results.timing.disturbance import Watch
from ....results.timing.energy.energy_counter import EnergyCounter
from ....results.timing.energy.energy_per_run import ENERGY_MS, joules_per_run
from ..across_ranks import gather, in_step, slowest, sum_of_devices

LEAST_BUDGET_S: Final = 2 * ENERGY_MS / 1e3  # of timed calls, below which counting would take most of a trial
TRIES: Final = 3  # of which one must be disturbed by nobody, whose energy would count too
TIMED: Final = 3  # calls that tell how long one takes
LEAST_MS: Final = 1e-3


def joules_of_call(
    call: Callable[[], object], counter: EnergyCounter, *, wait: Callable[[], object], watch: Watch
) -> float | None:
    """Return the joules of one call on all ranks together, which all must ask for together.

    ``wait`` waits for the device. Returns None where the counter of a rank does not move, or others kept disturbing the
    host.
    """

    def run(times: int) -> None:
        for _ in range(times):
            call()
        wait()

    for _ in range(TRIES):
        with no_garbage_collection():
            run(1)
            in_step()
            started = time.perf_counter()
            run(TIMED)
            ms = slowest(max(1e3 * (time.perf_counter() - started) / TIMED, LEAST_MS))
            watch.start()
            joules = joules_per_run(run, ms, counter.read, tick_ms=counter.tick_ms)
            quiet = not any(gather(watch.stop().disturbed or 0))
        if quiet:
            return sum_of_devices(counter.device, joules)
    return None


def with_energy(clocks: Clocks | None, energy_j: float | None) -> Clocks | None:
    """Return the state of a device with the joules of a call where they are known."""
    if energy_j is None:
        return clocks
    return (clocks or Clocks()).model_copy(update={"energy_j": energy_j})
