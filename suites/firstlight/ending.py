"""Ending of a command: the status of its step, and the reason in one line."""

from __future__ import annotations

import json
import re
import signal
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from .journal import StepStatus
from .process import Ended

BAD_ANSWER = 1  # exit code of `moebench`, of pytest with failures, and of compute-sanitizer with --error-exitcode 1
TRACEBACK = "Traceback (most recent call last)"
MEMORY = re.compile(r"OutOfMemoryError|\bMemoryError\b|CUDA out of memory|ALLOC_FAILED|\bout of memory\b")
LONGEST = 240  # characters that a reason may have


def judged(ended: Ended, *, said: str, limit_s: float) -> tuple[StepStatus, str]:
    """Return the status and the reason of a step, given how its command ended and its output ``said``."""
    code = ended.exit_code
    if code is None:
        return StepStatus.timeout, f"took longer than its limit of {limit_s:g} s and was ended"
    if code == 0:
        return StepStatus.done, ""
    last = last_line(said)
    if code < 0:
        name = signal.Signals(-code).name
        return StepStatus.crashed, f"was killed by {name}" + (" (out of memory?)" if name == "SIGKILL" else "")
    if MEMORY.search(last):
        return StepStatus.out_of_memory, last
    if code == BAD_ANSWER and TRACEBACK not in said:
        return StepStatus.wrong, last or "its result is wrong, see its log"
    return StepStatus.failed, last or f"ended with exit code {code} and printed nothing"


def last_line(said: str) -> str:
    """Return the last line of an output that is not empty: commands print there why they ended."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    return lines[-1].removeprefix("moebench: ")[:LONGEST] if lines else ""


def tally(files: Iterable[Path]) -> dict[str, int]:
    """Count the records of each status in files of records; a line that was cut off does not count."""
    counts: Counter[str] = Counter()
    for file in files:
        for line in file.read_bytes().splitlines():
            try:
                counts[str(json.loads(line)["status"])] += 1
            except (ValueError, KeyError, TypeError):
                continue
    return dict(counts.most_common())


def counted(records: dict[str, int]) -> str:
    """Format a tally as text."""
    return ", ".join(f"{count} {status}" for status, count in records.items())
