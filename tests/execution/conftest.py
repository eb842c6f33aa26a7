"""Fixtures of the tests of trials and workers."""

from __future__ import annotations

import pytest
import torch

from moebench.execution.trial.trial import TrialRunner
from moebench.results.timing.cpu_clock import CpuClock


@pytest.fixture(scope="session")
def runner() -> TrialRunner:
    """Return one runner for all tests, because measuring the rates of the machine takes about a second."""
    return TrialRunner(torch.device("cpu"), {"cold": CpuClock()})
