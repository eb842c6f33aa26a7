"""How commands end: a closed pipe, a full disk, a narrow encoding, a bug, a stop; and the options before the verb."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

import moebench
from moebench.cli import endings

MOEBENCH = (sys.executable, "-m", "moebench")


def test_the_version_is_printed_and_importable() -> None:
    said = subprocess.run([*MOEBENCH, "--version"], capture_output=True, text=True, check=True)
    assert said.stdout == f"moebench {version('moebench')}\n"
    assert moebench.__version__ == version("moebench")


@pytest.mark.parametrize("words", [("-h",), ("list", "-h"), ("tables", "show", "-h")])
def test_the_short_word_for_help_is_taken_by_every_verb(words: tuple[str, ...]) -> None:
    said = subprocess.run([*MOEBENCH, *words], capture_output=True, text=True, check=True)
    assert said.stdout.startswith("Usage: python -m moebench")


def test_completion_can_be_installed() -> None:
    environment = {**os.environ, "_MOEBENCH_COMPLETE": "source_bash"}
    words = [sys.executable, "-c", "from moebench.cli.main import app; app(prog_name='moebench')"]
    said = subprocess.run(words, env=environment, capture_output=True, text=True, check=True)
    assert "complete" in said.stdout


PREDICT = ("predict", "--model", "Mixtral-8x7B", "--machine", "dgx-h100", "--ranks", "8")


@pytest.mark.parametrize("words", [("list", "models"), PREDICT], ids=["by say", "by rich"])
def test_a_pipe_that_is_closed_early_ends_a_verb_in_silence(words: tuple[str, ...]) -> None:
    with subprocess.Popen([*MOEBENCH, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == endings.OUTPUT_CLOSED


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the system has no full device")
def test_output_that_cannot_be_written_is_one_line_and_exit_code_2() -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [*MOEBENCH, "list", "models"], stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert (done.returncode, done.stderr) == (2, "moebench: [Errno 28] No space left on device\n")


def test_characters_that_the_encoding_lacks_are_replaced() -> None:
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run([*MOEBENCH, *PREDICT], env=environment, capture_output=True, text=True, check=True)
    assert "fastest" in done.stdout


def test_a_bug_is_one_line_with_the_file_of_its_traceback(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with pytest.raises(SystemExit) as left, endings.reporting_bugs():
        raise ZeroDivisionError("nothing to divide by")
    (file,) = tmp_path.iterdir()
    assert left.value.code == endings.BUG
    assert capsys.readouterr().err == (
        f"moebench: this is a bug: ZeroDivisionError: nothing to divide by; please report it with {file}\n"
    )
    assert file.read_text().startswith("Traceback")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_command_that_is_stopped_ends_as_by_ctrl_c(number: signal.Signals) -> None:
    stopped = (
        f"import os; from moebench.cli import endings; endings.end_as_by_ctrl_c(); os.kill(os.getpid(), {number:d})"
    )
    done = subprocess.run([sys.executable, "-c", stopped], capture_output=True, text=True, check=False)
    assert done.stderr.endswith("KeyboardInterrupt\n")
