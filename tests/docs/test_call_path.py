"""The path of one record, from the command to the file, as docs/architecture.md writes it down."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest
from pages import ROOT

MOST_CALLS = 25


Stacks = dict[str, list[list[str]]]


@pytest.fixture(scope="module")
def stacks(tmp_path_factory: pytest.TempPathFactory) -> Stacks:
    """Run one point of a suite and return every way of calls down to each end of `call_path`, the outermost first."""
    folder = tmp_path_factory.mktemp("calls")
    (folder / "sitecustomize.py").write_text("import call_path\n")
    moebench = [sys.executable, "-m", "moebench.cli.main", "run", "smoke", "--kernel", "scatter", "--samples", "3"]
    paths = [str(folder), str(ROOT / "tests" / "support"), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = os.environ | {"CALL_PATH": str(folder), "PYTHONPATH": os.pathsep.join(paths)}
    output = ["--model", "Mixtral-8x7B", "--output", str(folder / "records.jsonl")]
    subprocess.run([*moebench, *output], check=True, capture_output=True, cwd=folder, env=environment)
    return {path.stem: [stack.split(", ") for stack in path.read_text().splitlines()] for path in folder.glob("*.txt")}


@pytest.mark.slow
def test_the_path_from_the_command_to_a_timed_call_is_short(stacks: Stacks) -> None:
    """The first way to a sample counts, which all samples but the last go."""
    assert sum(len(stacks[end][0]) for end in ("submit", "send", "sample")) <= MOST_CALLS, stacks


@pytest.mark.slow
@pytest.mark.parametrize("end", ["submit", "send", "sample", "_record", "append"])
def test_the_path_is_written_down(stacks: Stacks, end: str) -> None:
    shown = re.findall(r"`(\S+\.py)` `(\S+)`", (ROOT / "docs/architecture.md").read_text())
    written = [f"{file} {function}" for file, function in shown]
    calls = dict.fromkeys(call for stack in stacks[end] for call in stack)
    assert [call for call in calls if "<" not in call and call not in written] == []
