"""Facts that pages repeat are those of the code: statuses, reasons to stop, error bounds, constants."""

from __future__ import annotations

from typing import get_args

import pytest
from pages import ROOT

from moebench.execution.trial.checks.accuracy import BOUNDS
from moebench.results.record import Status
from moebench.results.timing.measure import Stop
from moebench.results.timing.stopping_rule import MIN_SAMPLES, PLATEAU_SAMPLES, SETTLED_SPREAD

METHOD = (ROOT / "docs/method.md").read_text()


@pytest.mark.parametrize("status", Status)
def test_every_status_is_explained(status: Status) -> None:
    assert f"\n| `{status.value}` | " in (ROOT / "docs/reading_a_report.md").read_text()


@pytest.mark.parametrize("reason", get_args(Stop))
def test_every_reason_to_stop_is_explained(reason: str) -> None:
    assert f"\n| `{reason}` | " in METHOD


@pytest.mark.parametrize("dtype", BOUNDS)
def test_error_bounds_are_those_of_the_check(dtype: str) -> None:
    row = next(line for line in METHOD.splitlines() if line.startswith(f"| {dtype}"))
    assert float(row.split("|")[2]) == BOUNDS[dtype]


def test_the_stopping_rule_has_the_constants_of_the_protocol() -> None:
    assert f"at least {MIN_SAMPLES} samples" in METHOD
    assert f"under {SETTLED_SPREAD:.1%}".replace("%", " %") in METHOD
    assert f"at least {2 * PLATEAU_SAMPLES} samples, and the last {PLATEAU_SAMPLES}" in METHOD
