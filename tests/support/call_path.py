"""The calls on the way to a record, written to files by the processes of a run.

Every process that imports this module writes them into the folder that the variable CALL_PATH names.
"""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path
from types import FrameType

ROOT = Path(__file__).resolve().parents[2]
ENDS = {
    ("execution/workers/executor.py", "submit"),
    ("execution/workers/local_worker.py", "send"),
    ("results/timing/cpu_clock.py", "sample"),
    ("execution/trial/trial.py", "_record"),
    ("results/record/store.py", "append"),
}
"""The functions that hand a task to a slot, send it to a worker, time a call, make a record and write it."""
NAMES = {name for _, name in ENDS}


def place(frame: FrameType) -> tuple[str, str] | None:
    """Return the file of the package and the function of a frame, None for a frame of other code."""
    path = Path(frame.f_code.co_filename).resolve()  # the package may be reached by a link
    if not path.is_relative_to(ROOT):
        return None
    return str(path.relative_to(ROOT)), frame.f_code.co_name


def watch(frame: FrameType, event: str, _: object) -> None:
    """Write down a stack that is new, the outermost call first, when a function of `ENDS` is called."""
    if event != "call" or frame.f_code.co_name not in NAMES or place(frame) not in ENDS:
        return
    calls = []
    up: FrameType | None = frame
    while up is not None:
        if (found := place(up)) and found[1] != "<module>":
            calls.append(" ".join(found))
        up = up.f_back
    stack = ", ".join(reversed(calls))
    with (Path(os.environ["CALL_PATH"]) / f"{frame.f_code.co_name}.txt").open("a+") as file:
        file.seek(0)
        if stack not in file.read().splitlines():
            file.write(f"{stack}\n")


if "CALL_PATH" in os.environ:
    threading.setprofile(watch)
    sys.setprofile(watch)
