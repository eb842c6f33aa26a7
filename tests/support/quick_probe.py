"""Probes for tests, in a module that the started processes can import."""

from __future__ import annotations

import os
from typing import Literal

from moebench.suites.prediction.calibration import links, probe, rank_group
from moebench.suites.prediction.calibration.probe import Probe


def quick(device_type: Literal["cpu", "cuda"]) -> Probe:
    """Probe with small messages and short windows."""
    links.SIZES, links.MOST = (256, 65536), links.LEAST
    rank_group.WINDOW_S = 0.01
    probe.COPY_BYTES = {"cpu": 1 << 20, "cuda": 1 << 20}
    return probe.take_part(device_type)


def failing(device_type: Literal["cpu", "cuda"]) -> Probe:
    """Probe with a rank that fails while the others measure."""
    if os.environ["RANK"] == "1":
        raise MemoryError("out of luck")
    return quick(device_type)
