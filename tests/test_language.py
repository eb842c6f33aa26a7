"""Tests of the language: docstrings and help texts begin as sentences that a stranger understands."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from moebench.cli.main import app

ROOT = Path(__file__).parents[1]
FOLDERS = ("autotune", "cli", "common", "execution", "integrations", "kernels", "reports", "results", "suites", "tests")
RIDDLES = {
    "Of", "What", "Who", "Where", "As", "Whose", "Whoever", "Whether", "That", "Its", "It", "They", "Those", "So"
}  # fmt: skip
"""First words after which a docstring is a fragment, or speaks of something that it has not named."""


def first_lines(source: Path) -> Iterator[tuple[str, str]]:
    """Yield where each docstring of a file is, and its first line."""
    for node in ast.walk(ast.parse(source.read_text())):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            line = getattr(node, "lineno", 1)
            yield f"{source.relative_to(ROOT)}:{line}", (ast.get_docstring(node) or "").partition("\n")[0]


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_docstring_names_its_subject(folder: str) -> None:
    offenders = [
        f"{place}: {line}"
        for source in sorted((ROOT / folder).rglob("*.py"))
        for place, line in first_lines(source)
        if line.partition(" ")[0].rstrip(",:;.") in RIDDLES
    ]
    assert not offenders, "\n".join(["begin with a verb or a noun:", *offenders])


def verbs(command: Any, name: str = "moebench") -> Iterator[tuple[str, Any]]:
    """Yield every verb below a command with what a user types for it.

    Commands have no type here, because Typer may bring its own copy of Click.
    """
    if not hasattr(command, "commands"):
        yield name, command
        return
    for word, one in command.commands.items():
        yield from verbs(one, f"{name} {word}")


VERBS = dict(verbs(typer.main.get_command(app)))


@pytest.mark.parametrize("verb", VERBS)
def test_every_option_has_a_help_text_that_is_a_sentence(verb: str) -> None:
    texts = {one.opts[0]: getattr(one, "help", None) or "" for one in VERBS[verb].params}
    wrong = {
        option: text
        for option, text in texts.items()
        if text.partition(" ")[0] in RIDDLES or not text[:1].isupper() or not text.endswith(".")
    }
    assert wrong == {}


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_says_what_it_does(verb: str) -> None:
    text = VERBS[verb].help or ""
    assert text[:1].isupper()
    assert text.partition("\n")[0].endswith(".")
