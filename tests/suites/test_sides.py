"""Sides: a revision and the working tree, really installed, from a repository that holds just enough to install."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from records import record

from moebench.results.record import Record
from moebench.suites.sides import Checkout, GateError, Side

PROJECT = """
[build-system]
requires = ["setuptools"]
build-backend = "setuptools.build_meta"

[project]
name = "moebench"
version = "{version}"
scripts = {{ moebench = "moebench.cli.main:main" }}

[tool.setuptools]
packages = ["moebench.cli"]
package-dir = {{ "moebench.cli" = "cli" }}
"""
# Stands in for `moebench run`: writes the records that it holds, after a word on where it runs.
COMMAND = """
import os, sys
import numpy

def main():
    output = sys.argv[sys.argv.index("--output") + 1]
    print({word!r}, os.environ.get("PYTHONPATH"), *sys.argv[1:-2], file=sys.stderr)
    if {records!r} is not None:
        open(output, "w").write({records!r})
    sys.exit({code})
"""


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=test", "-c", "user.email=test@example.org"]
    run = subprocess.run(["git", "-C", str(folder), *identity, *arguments], check=True, capture_output=True, text=True)
    return run.stdout.strip()


def write(folder: Path, version: str, *records: Record, word: str = "", code: int = 0, silent: bool = False) -> None:
    """Make the sources those of a command that answers so."""
    (folder / "cli").mkdir(parents=True, exist_ok=True)
    (folder / "pyproject.toml").write_text(PROJECT.format(version=version))
    lines = None if silent else "".join(one.model_dump_json() + "\n" for one in records)
    (folder / "cli" / "__init__.py").touch()
    (folder / "cli" / "main.py").write_text(COMMAND.format(word=word, records=lines, code=code))


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    folder = tmp_path / "checkout"
    write(folder, "1.0", record(kernel="before"))
    git(folder.parent, "init", "-q", str(folder))
    git(folder, "add", "-A")
    git(folder, "commit", "-qm", "before")
    return folder


def run(side: Side, folder: Path) -> list[Record]:
    folder.mkdir(exist_ok=True)
    return side.run(["suite"], folder)


def test_a_revision_and_the_changed_tree_are_installed_side_by_side(checkout: Path, tmp_path: Path) -> None:
    """Each runs its own code, with what is installed here behind it, and names what it was made of."""
    head = git(checkout, "rev-parse", "HEAD")
    write(checkout, "2.0", record(kernel="after"))
    (checkout / "cli" / "untracked.py").touch()
    found = Checkout.around(checkout / "cli")
    old, new = found.revision("HEAD", tmp_path / "old"), found.working_tree(tmp_path / "new")
    assert [(one.kernel, one.commit) for one in run(old, tmp_path / "scratch")] == [("before", head)]
    assert [(one.kernel, one.commit) for one in run(new, tmp_path / "scratch")] == [("after", f"{head}-dirty")]
    assert (new.name, old.name) == (f"the working tree, {head[:10]} and changes", f"HEAD, {head[:10]}")
    (installed,) = new.environment.glob("lib/python*/site-packages/moebench/cli/untracked.py")
    assert installed.exists()
    assert git(checkout, "status", "--porcelain") == " M cli/main.py\n M pyproject.toml\n?? cli/untracked.py".strip()


def test_a_tree_without_changes_is_its_commit(checkout: Path, tmp_path: Path) -> None:
    side = Checkout.around(checkout).working_tree(tmp_path / "new")
    assert side.commit == git(checkout, "rev-parse", "HEAD")


def test_files_that_git_ignores_or_that_are_deleted_are_no_part_of_the_tree(checkout: Path, tmp_path: Path) -> None:
    (checkout / ".gitignore").write_text("*.log\n")
    (checkout / "run.log").touch()
    (checkout / "cli" / "main.py").rename(checkout / "cli" / "moved.py")
    Checkout.around(checkout).working_tree(tmp_path / "new")
    assert {file.name for file in (tmp_path / "new" / "source" / "cli").glob("*.py")} == {"__init__.py", "moved.py"}
    assert not (tmp_path / "new" / "source" / "run.log").exists()


def test_what_is_no_checkout_of_moebench_is_refused(tmp_path: Path) -> None:
    with pytest.raises(GateError, match="not a git repository"):
        Checkout.around(tmp_path)
    git(tmp_path, "init", "-q")
    with pytest.raises(GateError, match="is no checkout of moebench"):
        Checkout.around(tmp_path)


@pytest.mark.parametrize("revision", ["nowhere", "--output=/etc/passwd"])
def test_a_revision_that_is_none_is_refused(checkout: Path, tmp_path: Path, revision: str) -> None:
    with pytest.raises(GateError, match="git rev-parse: fatal: Needed a single revision"):
        Checkout.around(checkout).revision(revision, tmp_path / "old")


def test_sources_that_cannot_be_installed_are_said(checkout: Path, tmp_path: Path) -> None:
    (checkout / "pyproject.toml").write_text(PROJECT.format(version="no version"))
    with pytest.raises(GateError, match=r"the working tree, .* and changes cannot be installed: "):
        Checkout.around(checkout).working_tree(tmp_path / "new")


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ({"code": 2, "word": "moebench: there is no suite"}, "could not be measured: there is no suite"),
        ({"code": -9, "word": "so far"}, "could not be measured: so far"),
        ({"code": 0, "silent": True}, "measured nothing: "),
    ],
)
def test_a_side_that_breaks_is_not_slower_and_not_fine(
    checkout: Path, tmp_path: Path, answer: dict[str, object], said: str
) -> None:
    write(checkout, "1.0", **answer)  # type: ignore[arg-type]  # as parametrised
    side = Checkout.around(checkout).working_tree(tmp_path / "new")
    with pytest.raises(GateError, match=f"the working tree, .* and changes {said}"):
        run(side, tmp_path / "scratch")


def test_a_bad_answer_is_a_record_like_any_other(checkout: Path, tmp_path: Path) -> None:
    write(checkout, "1.0", record(kernel="wrong"), code=1)
    side = Checkout.around(checkout).working_tree(tmp_path / "new")
    assert [one.kernel for one in run(side, tmp_path / "scratch")] == ["wrong"]


def test_records_that_cannot_be_read_are_refused(checkout: Path, tmp_path: Path) -> None:
    write(checkout, "1.0", record().model_copy(update={"schema_version": 99}))
    side = Checkout.around(checkout).working_tree(tmp_path / "new")
    with pytest.raises(GateError, match=r"cannot be compared: .*schema 99, this moebench reads schema 1"):
        run(side, tmp_path / "scratch")
