"""Tests that workflows call sessions of the noxfile that exist; the session `lint` checks the rest."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


def sessions() -> set[str]:
    """Return the names of the functions of the noxfile that are sessions."""
    body = ast.parse((ROOT / "noxfile.py").read_text()).body
    functions = [node for node in body if isinstance(node, ast.FunctionDef)]
    return {function.name for function in functions if "nox.session" in map(ast.unparse, function.decorator_list)}


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_every_session_that_is_called_is_there(path: Path) -> None:
    called = re.findall(r"(?:nox\"|arguments:|run: nox) -s ((?:[a-z]+ ?)+)", path.read_text())
    assert called
    assert {name for names in called for name in names.split()} <= sessions()


def test_there_is_one_for_pull_requests_one_for_a_gpu_and_one_for_releases() -> None:
    assert [path.stem for path in WORKFLOWS] == ["gpu", "pull-request", "release"]
