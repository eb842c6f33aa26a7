from __future__ import annotations

import pytest
import torch

from moebench.execution.trial.trial import TrialRunner
from moebench.results.timing.clock import CpuClock


@pytest.fixture(scope="session")
def bench() -> TrialRunner:
    """One bench for all tests: measuring the machine's rates takes about a second."""
    return TrialRunner(torch.device("cpu"), {"cold": CpuClock()})
