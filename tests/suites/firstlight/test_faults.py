"""Faults: a step that fails stops no other step, and the journal on the disk says what happened."""

from __future__ import annotations

import dataclasses
import json
import time
from itertools import cycle, product
from pathlib import Path
from typing import Any

import pytest
from cheap_session import DECLARED, NAMES, RECORD, cheap, held, python

from moebench.suites.firstlight.process import Stopped

# Of each fault what is run in the step's place, in how many seconds, and what must be said of it.
FAULTS = {
    "crash": (python("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)"), 10.0, "crashed", "killed by SIGSEGV"),
    "hang": (("/bin/sh", "-c", "sleep 60 & sleep 60"), 0.2, "timeout", "longer than its limit of 0.2 s"),
    "out of memory": (python("bytearray(1 << 60)"), 10.0, "out_of_memory", "MemoryError"),
    "wrong result": (("/bin/sh", "-c", "echo 'y is off by 3' >&2; exit 1"), 10.0, "wrong", "y is off by 3"),
    "missing import": (python("import no_such_module"), 10.0, "failed", "No module named 'no_such_module'"),
    "missing command": (("/no/such/command",), 10.0, "failed", "cannot be started"),
    "silent failure": (("/bin/sh", "-c", "exit 3"), 10.0, "failed", "exit code 3"),
}


def each_in_turn() -> list[Any]:
    """Return (fault, step) of all faults and steps; by default each step meets one fault, each fault a few steps."""
    pairs = list(product(FAULTS, NAMES))
    met = list(zip(cycle(FAULTS), NAMES, strict=False))
    return [pytest.param(*pair, marks=[] if pair in met else pytest.mark.exhaustive) for pair in pairs]


@pytest.mark.parametrize(("fault", "name"), each_in_turn())
def test_a_fault_costs_its_step_alone(fault: str, name: str, tmp_path: Path) -> None:
    command, limit_s, status, reason = FAULTS[fault]
    step = next(step for step in DECLARED if step.name == name)
    started = time.monotonic()
    held(tmp_path, {name: cheap(step, command, limit_s)})
    assert time.monotonic() - started < 10

    found = {entry["name"]: entry for entry in json.loads((tmp_path / "steps.json").read_text())["steps"]}
    assert found[name]["status"] == status
    assert reason in found[name]["reason"]
    assert "\n" not in found[name]["reason"]
    others = [entry for other, entry in found.items() if other != name]
    assert {entry["status"] for entry in others} == {"done"}
    assert not any(entry["reason"] for entry in others)
    for other in (step for step in DECLARED if step.name != name):
        for file in other.files:
            assert (tmp_path / file).read_text().strip() == RECORD
        assert set(other.files) <= set(found[other.name]["files"])


@pytest.mark.parametrize("name", NAMES)
def test_a_stop_in_any_step_leaves_what_ended_before_it(name: str, tmp_path: Path) -> None:
    """Ctrl-C and SIGTERM have this effect; tests/cli/measure/test_firstlight.py sends them."""
    step = next(step for step in DECLARED if step.name == name)
    with pytest.raises(Stopped):
        held(tmp_path, {name: cheap(step, ("sleep", "60"), 60)}, stop=[name])
    statuses = [entry["status"] for entry in json.loads((tmp_path / "steps.json").read_text())["steps"]]
    place = NAMES.index(name)
    assert statuses == ["done"] * place + ["interrupted"] + ["waiting"] * (len(NAMES) - place)


def test_records_that_are_not_right_are_counted_beside_the_status(tmp_path: Path) -> None:
    step = next(step for step in DECLARED if step.name == "cold")
    lines = "\\n".join(['{"status": "passed"}', '{"status": "wrong"}', '{"status": "passed"}', '{"stat'])
    journal = held(tmp_path, {"cold": cheap(step, ("/bin/sh", "-c", f"printf '{lines}' > cold.jsonl; exit 1"))})
    assert journal.entry("cold").records == {"passed": 2, "wrong": 1}
    assert journal.entry("cold").reason == "its records are 2 passed, 1 wrong"
    assert (tmp_path / "cold.jsonl").exists()


def test_a_step_that_cannot_be_done_is_skipped_with_the_reason(tmp_path: Path) -> None:
    step = next(step for step in DECLARED if step.name == "ncu")
    journal = held(tmp_path, {"ncu": dataclasses.replace(cheap(step), obstacle="ncu is not found: add it to PATH")})
    assert journal.entry("ncu").status == "skipped"
    assert journal.entry("ncu").reason == "ncu is not found: add it to PATH"
    assert not (tmp_path / "ncu.ncu-rep").exists()
    assert journal.entry("trace").status == "done"
