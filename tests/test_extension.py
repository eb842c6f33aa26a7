"""Extending moebench: each kind of plugin is one new file, which is then listed, used and measured.

Every test works on a copy of the package in a temporary folder, and asks a fresh process what it knows.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = ("autotune", "cli", "common", "execution", "kernels", "reports", "results", "suites")
RUN = """
import sys
sys.meta_path[:] = [finder for finder in sys.meta_path if "editable" not in getattr(finder, "__module__", "")]
sys.path_hooks[:] = [hook for hook in sys.path_hooks if "editable" not in getattr(hook, "__module__", "")]
sys.path.insert(0, {path!r})
"""


class House:
    """A copy of the package, to which files can be added."""

    def __init__(self, root: Path) -> None:
        self.root = root
        (root / "site").mkdir()
        for folder in FOLDERS:
            ignored = shutil.ignore_patterns("__pycache__", "recorded")
            shutil.copytree(ROOT / folder, root / "site" / "moebench" / folder, ignore=ignored)
        (root / "site" / "sitecustomize.py").write_text(RUN.format(path=str(root / "site")))

    def add(self, path: str, source: str) -> None:
        """Write a new file of the package; one that exists already would prove nothing."""
        with (self.root / "site" / "moebench" / path).open("x") as file:
            file.write(dedent(source))

    def python(self, code: str) -> str:
        """Return what a fresh process prints that runs ``code``."""
        return self._run("-c", dedent(code))

    def moebench(self, *arguments: str) -> str:
        """Return what a command of the copy prints."""
        return self._run("-c", "from moebench.cli.main import main; main()", *arguments)

    def _run(self, *arguments: str) -> str:
        environment = {**os.environ, "PYTHONPATH": str(self.root / "site"), "COLUMNS": "200"}
        run = subprocess.run(
            [sys.executable, *arguments], env=environment, cwd=self.root, capture_output=True, text=True, check=False
        )
        assert run.returncode == 0, run.stdout + run.stderr
        return run.stdout


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path)


def test_the_copy_is_what_a_process_imports(house: House) -> None:
    code = "import moebench.kernels.catalog as it, moebench.cli.main as main; print(it.__file__); print(main.__file__)"
    assert all(Path(line).is_relative_to(house.root) for line in house.python(code).split())
