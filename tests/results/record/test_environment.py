"""The fingerprint of the machine, and the commit of the sources."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from moebench.common.cores import usable_cores
from moebench.results.record import Environment
from moebench.results.record.environment import commit, fingerprint


def of_cpu() -> Environment:
    return fingerprint("cpu", device="a CPU", driver=None)


def test_fingerprint_of_the_cpu() -> None:
    """The fingerprint has what the process may use, versions without an import, and nothing about a GPU."""
    made = of_cpu()
    assert made.device == "a CPU"
    assert made.device_type == "cpu"
    assert made.cores == len(usable_cores())
    assert made.threads == torch.get_num_threads()
    assert made.memory_bytes > 2**28
    assert made.os.startswith(platform.system())
    assert made.python == platform.python_version()
    assert made.torch == torch.__version__
    assert made.moebench == metadata.version("moebench")
    assert (made.cuda, made.driver) == (None, None)
    assert of_cpu().differs(made) == []


def test_fingerprint_of_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """The caller gives the name of the device, its memory, and the CUDA version."""
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda: SimpleNamespace(total_memory=80 * 2**30))
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    made = fingerprint("cuda", device="NVIDIA H100", driver="580")
    assert (made.device, made.device_type, made.memory_bytes) == ("NVIDIA H100", "cuda", 80 * 2**30)
    assert (made.cuda, made.driver) == ("13.0", "580")


def test_triton_is_not_imported_and_may_be_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a fresh process the fingerprint leaves triton alone; not installed, its version is None."""
    code = (
        "import sys; from moebench.results.record.environment import *; "
        "fingerprint('cpu', device='a CPU', driver=None); "
        "print('triton' in sys.modules)"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "False"

    def version(package: str) -> str:
        if package == "triton":
            raise metadata.PackageNotFoundError(package)
        return "1.0"

    monkeypatch.setattr(metadata, "version", version)
    assert of_cpu().triton is None


@pytest.mark.skipif(sys.platform != "linux", reason="affinity is a thing of Linux")
def test_cores_are_those_the_process_may_use(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process bound to two of many cores has two."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {7, 4})
    usable_cores.cache_clear()
    assert usable_cores() == (4, 7)
    assert of_cpu().cores == 2
    usable_cores.cache_clear()


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a committed source file in a folder of a checkout, and a git that sees no other settings."""
    for name in [name for name in os.environ if name.startswith("GIT_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    monkeypatch.setenv("GIT_CONFIG_SYSTEM", os.devnull)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    file = tmp_path / "checkout" / "results" / "environment.py"
    file.parent.mkdir(parents=True)
    file.write_text("x = 1\n")
    checkout = file.parents[1]
    _git(checkout, "init", "--quiet")
    _git(checkout, "add", ".")
    who = ("-c", "user.name=a", "-c", "user.email=a@example.org")
    _git(checkout, *who, "commit", "--quiet", "--message", "first")
    return file


def _git(folder: Path, *arguments: str) -> str:
    command = ["git", "-C", str(folder), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def test_commit_of_a_clean_checkout(source: Path) -> None:
    """The full hash; a file of records beside the sources changes nothing."""
    (source.parents[1] / "records.jsonl").write_text("{}\n")
    assert commit(source) == _git(source.parent, "rev-parse", "HEAD")


@pytest.mark.parametrize("changed", ["results/environment.py", "kernels/implementations/new.py", "csrc/new.cu"])
def test_commit_of_changed_sources(source: Path, changed: str) -> None:
    """A tracked file that differs, or a new implementation that is not in the commit: dirty."""
    file = source.parents[1] / changed
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("x = 2\n")
    assert commit(source) == _git(source.parent, "rev-parse", "HEAD") + "-dirty"


def test_commit_of_another_project_is_not_reported(source: Path) -> None:
    """An installed package inside someone's checkout, untracked or ignored, has no commit."""
    installed = source.parents[1] / ".venv" / "site-packages" / "moebench" / "environment.py"
    installed.parent.mkdir(parents=True)
    installed.write_text("x = 1\n")
    assert commit(installed) == "unknown"


def test_commit_without_git(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No repository, no git, or a git that hangs: unknown, and no error."""
    outside = source.parents[2] / "environment.py"
    outside.write_text("x = 1\n")
    assert commit(outside) == "unknown"

    def hang(command: list[str], **_: object) -> None:
        raise subprocess.TimeoutExpired(command, 10.0)

    with monkeypatch.context() as patch:
        patch.setattr(subprocess, "run", hang)
        assert commit(source) == "unknown"
    monkeypatch.setenv("PATH", "")
    assert commit(source) == "unknown"
