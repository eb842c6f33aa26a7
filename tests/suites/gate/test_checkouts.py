"""Sides of the gate, a revision and the working tree, installed from a repository with just enough to install."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from records import record

from moebench.common.git import GitError
from moebench.results.record import Record, Status
from moebench.suites.gate.checkouts import Checkout, GateError, Side

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
# Replaces `moebench run`: prints its environment and arguments, and writes the records that it holds.
COMMAND = """
import os, sys

def main():
    output = sys.argv[sys.argv.index("--output") + 1]
    said = {word!r} or " ".join([str(os.environ.get("PYTHONPATH")), *sys.argv[1:-2]])
    print(said)
    print(said, file=sys.stderr)
    if {records!r} is not None:
        open(output, "w").write({records!r})
    sys.exit({code})
"""


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=test", "-c", "user.email=test@example.org"]
    run = subprocess.run(["git", "-C", str(folder), *identity, *arguments], check=True, capture_output=True, text=True)
    return run.stdout.strip()


def lines(records: Sequence[Record]) -> str:
    return "".join(one.model_dump_json() + "\n" for one in records)


def write(folder: Path, version: str, *records: Record) -> None:
    """Write the sources of a command that answers with these records, and needs a package that is installed here."""
    (folder / "cli").mkdir(parents=True, exist_ok=True)
    (folder / "pyproject.toml").write_text(PROJECT.format(version=version))
    (folder / "cli" / "__init__.py").touch()
    (folder / "cli" / "main.py").write_text("import numpy\n" + COMMAND.format(word="", records=lines(records), code=0))


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
    with side.start(["suite"], folder) as started:
        return started.result()


def test_a_revision_and_the_changed_tree_are_installed_side_by_side(checkout: Path, tmp_path: Path) -> None:
    """Each side runs its code with the packages that are installed here, and its records name its commit."""
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
    with pytest.raises(GitError, match="not a git repository"):
        Checkout.around(tmp_path)
    git(tmp_path, "init", "-q")
    with pytest.raises(GateError, match="is no checkout of moebench"):
        Checkout.around(tmp_path)


@pytest.mark.parametrize("revision", ["nowhere", "--output=/etc/passwd"])
def test_a_revision_that_is_none_is_refused(checkout: Path, tmp_path: Path, revision: str) -> None:
    with pytest.raises(GitError, match="git rev-parse: fatal: Needed a single revision"):
        Checkout.around(checkout).revision(revision, tmp_path / "old")


def test_sources_that_cannot_be_installed_are_said(checkout: Path, tmp_path: Path) -> None:
    (checkout / "pyproject.toml").write_text(PROJECT.format(version="no version"))
    with pytest.raises(GateError, match=r"the working tree, .* and changes cannot be installed: "):
        Checkout.around(checkout).working_tree(tmp_path / "new")


def answering(folder: Path, *records: Record, code: int = 0, says: str = "", wrote: bool = True) -> Side:
    """Return a side whose `moebench` gives this answer to all arguments."""
    command = folder / "environment" / "bin" / "moebench"
    command.parent.mkdir(parents=True)
    command.write_text(
        f"#!{sys.executable}\n"
        + COMMAND.format(word=says, records=lines(records) if wrote else None, code=code)
        + "main()\n"
    )
    command.chmod(0o755)
    return Side("the side", "0123abc", folder / "environment")


@pytest.mark.parametrize(
    ("code", "says", "said"),
    [
        (2, "moebench: there is no suite", "the side could not be measured: there is no suite"),
        (-9, "so far", "the side could not be measured: so far"),
        (1, "ZeroDivisionError: division by zero", "the side could not be measured: ZeroDivisionError"),
        (0, "nothing to do", "the side measured nothing: nothing to do"),
    ],
)
def test_a_side_that_breaks_is_not_slower_and_not_fine(tmp_path: Path, code: int, says: str, said: str) -> None:
    with pytest.raises(GateError, match=said):
        run(answering(tmp_path, code=code, says=says, wrote=False), tmp_path)


def test_a_bad_answer_is_a_record_like_any_other(tmp_path: Path) -> None:
    wrong = record(status=Status.wrong, reason="off by 1", timing=None)
    (found,) = run(answering(tmp_path, wrong, code=1), tmp_path)
    assert (found.status, found.commit) == (Status.wrong, "0123abc")


def test_a_run_that_breaks_after_good_records_is_broken(tmp_path: Path) -> None:
    """Python also ends with exit code 1 after a traceback."""
    with pytest.raises(GateError, match="could not be measured: ZeroDivisionError"):
        run(answering(tmp_path, record(), code=1, says="ZeroDivisionError"), tmp_path)


def test_records_that_cannot_be_read_are_refused(tmp_path: Path) -> None:
    future = record().model_copy(update={"schema_version": 99})
    with pytest.raises(GateError, match=r"cannot be compared: .*schema 99, this moebench reads schemas 1 to 2"):
        run(answering(tmp_path, future), tmp_path)


def test_a_run_inherits_neither_paths_nor_what_an_earlier_one_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", "/elsewhere")
    (tmp_path / "records.jsonl").write_text(lines([record()]))
    with pytest.raises(GateError, match="measured nothing: None run suite"):
        run(answering(tmp_path, wrote=False), tmp_path)


def sleeping(folder: Path) -> Side:
    """Return a side whose `moebench` notes its process and sleeps."""
    command = folder / "environment" / "bin" / "moebench"
    command.parent.mkdir(parents=True)
    command.write_text(f"#!/bin/sh\necho $$ > {folder}/process\nexec sleep 60\n")
    command.chmod(0o755)
    return Side("the side", "0123abc", folder / "environment")


def is_gone(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return True
    return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] == "Z"  # nobody has waited for it


def eventually(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 5
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_run_ends_when_the_gate_is_stopped(tmp_path: Path) -> None:
    """SIGTERM to the gate alone, as from a batch system, is a KeyboardInterrupt in it."""
    noted = tmp_path / "process"

    def stopped() -> None:
        with sleeping(tmp_path).start(["suite"], tmp_path):
            eventually(lambda: noted.is_file() and bool(noted.read_text().strip()))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped()
    assert is_gone(int(noted.read_text()))


def test_a_run_ends_when_the_gate_is_killed(tmp_path: Path) -> None:
    noted = tmp_path / "process"
    sleeping(tmp_path)
    code = f"""
import os
from pathlib import Path
from moebench.suites.gate.checkouts import Side
folder = Path({str(tmp_path)!r})
Side("the side", "0123abc", folder / "environment").start(["suite"], folder)
while not (folder / "process").is_file() or not (folder / "process").read_text().strip():
    pass
os.kill(os.getpid(), 9)
"""
    subprocess.run([sys.executable, "-c", code], check=False)
    eventually(lambda: is_gone(int(noted.read_text())))
