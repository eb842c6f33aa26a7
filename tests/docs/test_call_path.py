"""The path of one record, from the command to the file, as docs/architecture.md writes it down."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest
from pages import ROOT

MOST_CALLS = 25


@pytest.fixture(scope="module")
def stacks(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """Run one point of a suite and return the calls down to each end of `call_path`, the outermost first."""
    folder = tmp_path_factory.mktemp("calls")
    (folder / "sitecustomize.py").write_text("import call_path\n")
    moebench = [sys.executable, "-m", "moebench.cli.main", "run", "smoke", "--kernel", "scatter", "--samples", "3"]
    paths = os.pathsep.join(map(str, (folder, ROOT / "tests" / "support")))
    environment = os.environ | {"CALL_PATH": str(folder), "PYTHONPATH": paths}
    output = ["--model", "Mixtral-8x7B", "--output", str(folder / "records.jsonl")]
    subprocess.run([*moebench, *output], check=True, capture_output=True, cwd=folder, env=environment)
    return {path.stem: path.read_text().splitlines() for path in folder.glob("*.txt")}


@pytest.mark.slow
def test_the_path_from_the_command_to_a_timed_call_is_short(stacks: dict[str, list[str]]) -> None:
    assert sum(len(stacks[end]) for end in ("submit", "send", "sample")) <= MOST_CALLS, stacks


@pytest.mark.slow
@pytest.mark.parametrize("end", ["submit", "send", "sample", "_record", "append"])
def test_the_path_is_written_down(stacks: dict[str, list[str]], end: str) -> None:
    shown = re.findall(r"`(\S+\.py)` `(\S+)`", (ROOT / "docs/architecture.md").read_text())
    written = [f"{file} {function}" for file, function in shown]
    assert [call for call in stacks[end] if "<" not in call and call not in written] == []
