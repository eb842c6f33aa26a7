"""The gate on this machine: a slower implementation in a working tree is caught, and the tree is the same as itself.

Each test takes minutes on a machine that is otherwise idle; load from its neighbours may come and go.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[3]
MOEBENCH = Path(sys.executable).with_name("moebench")
LOOP = "kernels/implementations/loop.py"

pytestmark = pytest.mark.slow


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """Return a fresh clone of the commit of this checkout."""
    folder = tmp_path / "clone"
    subprocess.run(["git", "clone", "-q", str(ROOT), str(folder)], check=True)
    return folder


def gate(clone: Path, *arguments: str) -> tuple[int, dict[tuple[str, str], str]]:
    """Return the exit code, and the verdicts by series and kernel."""
    command = [str(MOEBENCH), "gate", "--model", "Mixtral-8x7B", "--device", "cpu", "--json", *arguments]
    ended = subprocess.run(command, cwd=clone, capture_output=True, text=True, check=False)
    assert ended.stdout, ended.stderr
    verdicts: list[dict[str, Any]] = json.loads(ended.stdout)
    return ended.returncode, {(one["key"]["series"], one["key"]["kernel"]): one["status"] for one in verdicts}


def test_an_extra_copy_of_the_weights_is_caught_where_it_is_made(clone: Path) -> None:
    """The slowdown is real work, in the loop over experts and not in the padded product."""
    source = (clone / LOOP).read_text()
    slower = source.replace("weights.w_up_EUD.unbind()", "weights.w_up_EUD.clone().unbind()")
    slower = slower.replace("weights.w_down_EDF.unbind()", "weights.w_down_EDF.clone().unbind()")
    assert slower.count(".clone()") == source.count(".clone()") + 2
    (clone / LOOP).write_text(slower)
    code, verdicts = gate(clone, "--base", "HEAD", "--kernel", "loop", "--kernel", "padded")
    assert code == 1, verdicts
    assert verdicts["dropless", "loop"] == "slower"
    assert not {status for (_, kernel), status in verdicts.items() if kernel == "padded"} & {"slower", "broken"}


def test_a_tree_is_the_same_as_itself(clone: Path) -> None:
    code, verdicts = gate(clone, "--self", "--kernel", "loop", "--kernel", "padded")
    assert code == 0
    assert set(verdicts.values()) == {"same"}
