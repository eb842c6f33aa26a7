"""`moebench kernels compile`: tables and JSON, refusals with the remedy, and Ctrl-C."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from moebench.cli.main import app

pytest.importorskip("triton")

from moebench.kernels.triton import launch

COMMAND = [str(Path(sys.executable).with_name("moebench")), "kernels", "compile"]
COMPILING = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
DECODING = ["--target", "gfx942", "--kernel", "triton_scatter", "--model", "OLMoE-1B-7B"]


def compile_(*arguments: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *arguments], cwd=cwd, env=COMPILING | environment, capture_output=True, text=True, check=False
    )


def refused(*arguments: str) -> str:
    """Return what the command says in this process, which compiles nothing."""
    answer = CliRunner(env={"COLUMNS": "200"}).invoke(app, ["kernels", "compile", *arguments])
    assert answer.exit_code == 2
    assert not answer.stdout
    return answer.stderr


@pytest.mark.parametrize(
    ("arguments", "remedy"),
    [
        (["--target", "sm90"], "did you mean sm_90"),
        (["--kernel", "scatter"], "did you mean triton_scatter"),
        (["--model", "Mixtral-8x7"], "did you mean Mixtral-8x7B"),
        (["--dtype", "bf16"], "did you mean bfloat16"),
    ],
)
def test_what_cannot_be_done_is_said_with_exit_code_2(
    arguments: list[str], remedy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launch, "INTERPRETED", False)
    assert remedy in refused(*arguments)


def test_an_interpreting_process_compiles_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch, "INTERPRETED", True)
    said = refused()
    assert "TRITON_INTERPRET is set" in said
    assert "unset it" in said


def test_a_table_a_launch_a_line_and_what_the_words_mean(tmp_path: Path) -> None:
    answer = compile_(*DECODING, "--mode", "forward", "--tokens", "16", cwd=tmp_path, COLUMNS="80")
    assert answer.returncode == 0, answer.stderr
    lines = answer.stdout.splitlines()
    assert max(map(len, lines)) <= 80
    assert any(line.startswith("gfx942 · triton_scatter · OLMoE-1B-7B T=16 forward bfloat16") for line in lines)
    assert any(line.split()[0] == "up" and "mfma" in line for line in lines if line)
    assert "regs: registers of a thread" in answer.stdout
    assert "launches of 1 layer: none spill" in lines[-1]


@pytest.mark.exhaustive  # the table is made of the same records
def test_json_for_machines(tmp_path: Path) -> None:
    answer = compile_(*DECODING, "--json", cwd=tmp_path)
    assert answer.returncode == 0, answer.stderr
    trained, decoded = json.loads(answer.stdout)
    assert trained["launches"].keys() > decoded["launches"].keys()
    assert decoded["launches"]["up"]["registers"] > 0
    assert decoded["config"]["up"].startswith("16x")
    assert decoded["error"] == ""


def test_interrupted_it_ends_its_compilers_and_says_how_far_it_came(tmp_path: Path) -> None:
    with subprocess.Popen(
        [*COMMAND, "--all", "--jobs", "2"],
        cwd=tmp_path,
        env=COMPILING,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        deadline = time.monotonic() + 60
        while len(compilers := compilers_of(process.pid)) < 2:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        _, printed = process.communicate(timeout=30)
    assert process.returncode == 2
    assert "interrupted; 0 of" in printed
    assert "Traceback" not in printed
    assert not any(compiler.exists() for compiler in compilers)


def compilers_of(pid: int) -> list[Path]:
    """Return the worker processes that a process has spawned, in /proc."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [path for path in map(Path("/proc").joinpath, children) if b"spawn_main" in (path / "cmdline").read_bytes()]
