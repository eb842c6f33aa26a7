from __future__ import annotations

import pytest
import torch

from moebench.execution.trial.trial import Bench
from moebench.results.timing.clock import CpuClock


@pytest.fixture(scope="session")
def bench() -> Bench:
    """One bench for all tests: measuring the machine's rates takes about a second."""
    return Bench(torch.device("cpu"), {"cold": CpuClock()})
