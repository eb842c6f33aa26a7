"""Ending of a command: its status and its reason in one line."""

from __future__ import annotations

import pytest

from moebench.suites.firstlight.ending import LONGEST, counted, judged, last_line
from moebench.suites.firstlight.journal import StepStatus
from moebench.suites.firstlight.process import Ended

TRACE = "Traceback (most recent call last):\n  File x\n"


@pytest.mark.parametrize(
    ("code", "said", "status", "reason"),
    [
        (0, "a warning", StepStatus.done, ""),
        (1, "moebench: 2 of 3 are wrong", StepStatus.wrong, "2 of 3 are wrong"),
        (1, "", StepStatus.wrong, "its result is wrong, see its log"),
        (1, f"{TRACE}ModuleNotFoundError: No module named 'pydantic'", StepStatus.failed, "No module named 'pydantic'"),
        (1, f"{TRACE}torch.OutOfMemoryError: CUDA out of memory.", StepStatus.out_of_memory, "CUDA out of memory"),
        (1, f"{TRACE}MemoryError", StepStatus.out_of_memory, "MemoryError"),
        (2, "moebench: give another --output", StepStatus.failed, "give another --output"),
        (-9, "", StepStatus.crashed, "SIGKILL (out of memory?)"),
        (-11, "words", StepStatus.crashed, "was killed by SIGSEGV"),
        (None, "words", StepStatus.timeout, "longer than its limit of 30 s"),
    ],
)
def test_status_and_reason_of_an_ending(code: int | None, said: str, status: StepStatus, reason: str) -> None:
    found = judged(Ended(code, 1.0), said=said, limit_s=30)
    assert found[0] is status
    assert reason in found[1]


def test_a_reason_is_one_short_line() -> None:
    assert last_line("first\n\n  last  \n\n") == "last"
    assert last_line("\n") == ""
    assert len(last_line("x" * 10_000)) == LONGEST


def test_a_tally_is_formatted_as_text() -> None:
    assert counted({"passed": 3, "wrong": 1}) == "3 passed, 1 wrong"
