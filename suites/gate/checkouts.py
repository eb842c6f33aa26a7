"""The two sides of a gate: a revision and the working tree, each installed as a wheel in a separate environment."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
import tomllib
import venv
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

from ...common.cores import roaming
from ...common.errors import UserError
from ...common.git import git
from ...kernels.signals import end_with_parent
from ...results.record import Record
from ...results.record.store import Store, load

PACKAGE = "moebench"
SHORT = 10  # digits of a commit in messages
OUT, ERR = "out", "err"  # files of what a run prints
STOP_S = 10.0  # for a run to end its workers after it was asked to stop
# Inherited, they would let a test runner or an IDE decide which moebench a side measures.
NOT_INHERITED = ("PYTHONPATH", "PYTHONHOME", "PYTHONSAFEPATH", "VIRTUAL_ENV")


class GateError(UserError):
    """The gate could not measure; the message says what failed and the remedy."""


@dataclass(frozen=True)
class Side:
    """One side: sources of moebench, installed; its records name ``commit``, with ``-dirty`` for a changed tree."""

    name: str
    commit: str
    environment: Path

    def start(self, arguments: Sequence[str], interleave_with: Path, held: Sequence[Record] = ()) -> SideRun:
        """Start a fresh `moebench run` that takes turns with the other side's through a shared folder.

        The run continues a file that has the records ``held``, so it does not measure their points. It is asked to stop
        when the thread that started it ends.
        """
        folder = Path(tempfile.mkdtemp(dir=interleave_with))
        records = folder / "records.jsonl"
        with Store(records) as store:
            for record in held:
                store.append(record)
        command = [str(self.environment / "bin" / "moebench"), "run", *arguments]
        command += ["--interleave-with", str(interleave_with), "--output", str(records)]
        inherited = {name: value for name, value in os.environ.items() if name not in NOT_INHERITED}
        with (folder / OUT).open("wb") as out, (folder / ERR).open("wb") as err, roaming():
            # The arguments are those of this command, which the run checks; what runs before it is one system call.
            process = subprocess.Popen(  # noqa: S603
                command,
                cwd=folder,
                env=inherited,
                stdout=out,
                stderr=err,
                preexec_fn=end_with_parent,  # noqa: PLW1509
            )
        return SideRun(self, process, folder, len(held))


@dataclass(frozen=True)
class SideRun:
    """A `moebench run` of a side, which may still be under way, in its folder; its file held ``held`` records before.

    Leaving the block stops it.
    """

    side: Side
    process: subprocess.Popen[bytes]
    folder: Path
    held: int

    def __enter__(self) -> SideRun:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.terminate()  # nothing happens to one that has ended
        try:
            self.process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def result(self) -> list[Record]:
        """Wait until the run has ended, and return its records.

        Raises:
            GateError: when it measured nothing, or did not end as a run does.
        """
        code, name = self.process.wait(), self.side.name
        loaded = load(self.folder / "records.jsonl")
        made = loaded.records[self.held :]
        # A run leaves with 1 where something was wrong or crashed, and so does Python where moebench itself did.
        expected = (0, 1) if any(record.status.bad for record in loaded.records) else (0,)
        if code not in expected:
            raise GateError(f"{name} could not be measured: {self._last_line(ERR)}")
        if loaded.problems:
            raise GateError(f"{name} wrote records that cannot be compared: {loaded.problems[0]}")
        if not made:
            raise GateError(f"{name} measured nothing: {self._last_line(OUT)}")
        return [record.model_copy(update={"commit": self.side.commit}) for record in made]

    def _last_line(self, file: str) -> str:
        return _last_line((self.folder / file).read_text(errors="replace"))


@dataclass(frozen=True)
class Checkout:
    """A checkout of moebench under git."""

    root: Path

    @staticmethod
    def around(folder: Path) -> Checkout:
        """Return the checkout that a folder lies in.

        Raises:
            GateError: when it is another project's.
            GitError: when there is none.
        """
        root = Path(git(folder, "rev-parse", "--show-toplevel").decode().strip())
        project = root / "pyproject.toml"
        known = tomllib.loads(project.read_text()) if project.is_file() else {}
        if known.get("project", {}).get("name") != PACKAGE:
            raise GateError(f"{root} is no checkout of {PACKAGE}: change into one")
        return Checkout(root)

    def revision(self, revision: str, folder: Path) -> Side:
        """Install a commit, tag or branch in the empty folder.

        Raises:
            GateError: when it cannot be installed.
            GitError: when there is no such revision.
        """
        commit = git(self.root, "rev-parse", "--verify", "--end-of-options", f"{revision}^{{commit}}").decode().strip()
        with tarfile.open(fileobj=BytesIO(git(self.root, "archive", "--format=tar", commit))) as archive:
            archive.extractall(folder / "source", filter="data")
        name = f"{revision}, {commit[:SHORT]}"
        return Side(name, commit, _installed(name, folder))

    def working_tree(self, folder: Path) -> Side:
        """Install the files of the working tree, without those that git ignores, in the empty folder.

        Raises:
            GateError: when they cannot be installed.
        """
        listed = git(self.root, "ls-files", "-z", "--cached", "--others", "--exclude-standard").decode()
        for file in filter(None, listed.split("\0")):
            if (self.root / file).is_file():  # a deleted file is still listed
                target = folder / "source" / file
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(self.root / file, target, follow_symlinks=False)
        head = git(self.root, "rev-parse", "HEAD").decode().strip()
        changed = bool(git(self.root, "status", "--porcelain"))
        name = f"the working tree, {head[:SHORT]}{' and changes' if changed else ''}"
        return Side(name, f"{head}-dirty" if changed else head, _installed(name, folder))


def _installed(name: str, folder: Path) -> Path:
    """Make an environment with the wheel of ``source``, followed by the packages of the running Python."""
    environment, wheels = folder / "environment", folder / "wheels"
    _pip(name, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(wheels), str(folder / "source"))
    venv.create(environment, symlinks=True)
    (wheel,) = wheels.glob("*.whl")
    python = environment / "bin" / "python"
    _pip(name, "--python", str(python), "install", "--no-deps", "--no-index", str(wheel))
    packages = sysconfig.get_path("purelib", vars={"base": str(environment), "platbase": str(environment)})
    behind = [path for path in sys.path if Path(path).name in ("site-packages", "dist-packages")]
    (Path(packages) / "behind.pth").write_text("\n".join(behind) + "\n")
    return environment


def _pip(name: str, *arguments: str) -> None:
    # All arguments are made here, from paths.
    ended = subprocess.run(  # noqa: S603
        [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", *arguments],
        capture_output=True,
        text=True,
        check=False,
    )
    if ended.returncode:
        raise GateError(f"{name} cannot be installed: {_last_line(ended.stderr)}")


def _last_line(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[-1].removeprefix(f"{PACKAGE}: ") if lines else "it printed nothing"
