"""Calls of git: its output, or one line on what failed."""

from __future__ import annotations

from pathlib import Path

import pytest

from moebench.common.git import GitError, git


def test_the_output_of_git_is_returned(tmp_path: Path) -> None:
    git(tmp_path, "init", "--quiet")
    assert git(tmp_path, "rev-parse", "--is-inside-work-tree").strip() == b"true"


def test_the_last_line_that_git_prints_is_the_reason(tmp_path: Path) -> None:
    with pytest.raises(GitError, match=r"^git rev-parse: fatal: .*not a git repository"):
        git(tmp_path, "rev-parse", "HEAD")


def test_without_git_the_remedy_is_to_install_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(GitError, match="install it"):
        git(tmp_path, "rev-parse", "HEAD")


def test_a_call_that_takes_too_long_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slow = tmp_path / "git"
    slow.write_text("#!/bin/sh\nexec sleep 30\n")
    slow.chmod(0o700)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    with pytest.raises(GitError, match=r"git status: .*timed out"):
        git(tmp_path, "status", timeout_s=0.2)
