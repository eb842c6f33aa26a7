"""Observer of what one call launches: kernels, torch operators, and waits of the host."""

from __future__ import annotations

from ....kernels.instruments.launch_counter import count_launches
from ....kernels.oracle import Result
from ....results.record import Launches
from ....results.timing.operators import count_operators
from .observer import ObservedCall, Take


class LaunchObserver:
    """Counts the launches of the first call by name."""

    field = "launches"

    def observe(self, observed: ObservedCall, take: Take) -> tuple[Result, Launches]:
        with count_launches() as kernels, count_operators() as operators:
            result = take()
        return result, Launches(kernels=kernels, operators=operators.names, host_waits=operators.waits)
