"""Output of every verb: it fits the terminal; a pipe gets whole lines."""

from __future__ import annotations

import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.main import get_command
from typer.testing import CliRunner

from moebench.autotune.tables.table_files import derive_files
from moebench.cli import screen
from moebench.cli.main import app
from moebench.cli.measure import clock
from moebench.cli.show import doctor
from moebench.cli.tuning.views import answer
from moebench.execution.trial.clock_check import Comparison, Skipped
from moebench.kernels.problem.traces.trace_format import LayerDescription, LayerRoutes
from moebench.kernels.problem.traces.trace_writer import write_trace

ROOT = Path(__file__).parents[2]
RECORDED = ROOT / "results" / "recorded"
MODEL = ("--model", "Qwen3-30B-A3B", "--tokens", "16")
WIDTHS = (40, 80)
WALK: dict[str, list[tuple[str, ...]]] = {
    "list": [(kind,) for kind in ("kernels", "suites", "models", "routers", "strategies", "machines", "formats")],
    "compare": [("r.jsonl", "r.jsonl")],
    "history": [("r.jsonl",)],
    "report": [("r.jsonl",), ("missing.jsonl",)],
    "export": [("r.jsonl", "-o", "r.json")],
    "predict": [("--model", "DeepSeek-V3", "--machine", "dgx-h100", "--ranks", "8..64")],
    "advise": [
        ("--model", "Qwen3-30B-A3B", "--device", "H100", "--traffic", "decode:64=0.9,prefill:8192=0.1", "--price", "2"),
        ("--model", "Qwen3-30B-A3B", "--traffic", "decode:64=0.9"),
    ],
    "tune": [
        ("scatter", "--show-space", *MODEL),
        ("triton_scatter", "--explain", "--target", "sm_90", "--top", "1", *MODEL),
        ("triton_scatter", "--plan", "--target", "sm_90", *MODEL),
        ("scatter", "--show-space"),
    ],
    "counters": [("-k", "scater")],
    "firstlight": [("--list", "-o", "session")],
    "run": [("smoke", "-k", "scater"), ("smoke", "--outptu", "x"), ("smoke", "--device", "tpu")],
    "gate": [()],
    "calibrate": [("-o", "machine.txt")],
    "doctor": [("now",)],
    "clock": [("now",)],
    "tables show": [("tuned/scatter.json",)],
    "tables build": [("r.jsonl", "-o", "tuned")],
    "tables check": [("tuned/scatter.json", "r.jsonl")],
    "tables export": [("--engine", "vllm", "tuned/scatter.json")],
    "tables import": [("vllm",)],
    "tables lint": [("vllm",)],
    "kernels compile": [("--target", "sm90")],
    "trace import": [("nowhere",), ("set",)],
    "trace record": [("--model", "nowhere", "--text", "missing.txt")],
    "trace show": [("t.npz",), ("t.npz", "--layer", "1"), ("t.npz", "--layer", "2"), ("r.jsonl",)],
}
"""Words for every verb; what only a measurement prints is shown by the tests after the walk."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with some records, a tuned table and a file of tuned tiles."""
    made = tmp_path_factory.mktemp("narrow")
    lines = (RECORDED / "cpu-peers.jsonl").read_text().splitlines(keepends=True)
    (made / "r.jsonl").write_text("".join(lines[:9]))
    tuned = (
        CliRunner()
        .invoke(app, ["tables", "build", str(RECORDED / "cpu-tuned.jsonl"), "-o", str(made / "tuned")])
        .output.splitlines()
    )
    Path(tuned[0]).rename(made / "tuned" / "scatter.json")
    ids = np.arange(2000, dtype=np.int32).reshape(1000, 2) % 80
    layers = [LayerDescription(name=f"layers.{layer}.mlp", experts=80, steps=(1000,)) for layer in range(2)]
    write_trace(made / "t.npz", [LayerRoutes(layer=layer, ids_TK=ids) for layer in layers])
    CliRunner().invoke(app, ["export", str(made / "r.jsonl"), "--format", "flashinfer-trace", "-o", str(made / "set")])
    (made / "vllm").mkdir()
    tiles = '{"16": {"BLOCK_SIZE_M": 16, "BLOCK_SIZE_N": 100, "BLOCK_SIZE_K": 64, "GROUP_SIZE_M": 1}}'
    (made / "vllm" / "E=8,N=1792,device_name=NVIDIA_H100.json").write_text(tiles)
    return made


def verbs(command: Any = None, name: str = "") -> Iterator[str]:
    """Yield the names of all verbs."""
    command = command or get_command(app)
    below = getattr(command, "commands", {})
    for word, one in below.items():
        yield from verbs(one, f"{name} {word}".strip())
    if not below:
        yield name


def too_wide(text: str, width: int) -> list[str]:
    """Return the lines that do not fit; one word alone may be longer, because it is a path to copy."""
    return [line for line in text.splitlines() if len(line.rstrip()) > width and len(line.split()) > 1]


def test_every_verb_is_walked() -> None:
    assert set(WALK) == set(verbs())


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("verb", WALK)
def test_no_line_is_wider_than_the_terminal(
    verb: str, width: int, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    for words in WALK[verb]:
        for end in (words, (*words, "--help")):
            said = CliRunner(env={"COLUMNS": str(width)}).invoke(app, [*verb.split(), *end])
            assert said.output
            assert too_wide(said.output, width) == [], end


@pytest.mark.parametrize("width", WIDTHS)
def test_what_was_measured_fits(
    width: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    compared = Comparison(
        kernel="matmul", tokens=512, cache="cold", ours_ms=1.25, rival="torch.utils.benchmark", rival_ms=1.5
    )
    clock.show([compared], [Skipped(kernel="scatter", tokens=8, rival="do_bench", reason="no GPU " * 20)])
    doctor.show(
        {
            "how_quiet": {"cores": {"found": "2 are threads of 1 physical one", "remedy": "use one thread of each"}},
            "kernels": {"transformers_grouped_mm": "needs transformers: pip install 'moebench[peers]'"},
            "kept_for_layers": "nothing",
        }
    )
    tables = derive_files([RECORDED / "cpu-tuned.jsonl"]).tables
    screen.say("\n".join(line for entry in tables[0].entries for line in answer(tables[0], entry.shape)))
    said = capsys.readouterr().out
    assert too_wide(said, width) == []
    for essential in ("torch.utils.benchmark", "-16.7", "physical one", "speed-up"):
        assert essential in said


def test_a_pipe_gets_whole_lines_and_every_column(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    monkeypatch.chdir(folder)
    rows = CliRunner().invoke(app, ["compare", "r.jsonl", "r.jsonl"]).output.splitlines()
    assert rows[0].startswith("| verdict ")
    assert len({line.count("|") for line in rows[:11]}) == 1
    names = CliRunner().invoke(app, ["list", "kernels"]).output.splitlines()
    assert all(len(line.split("  ", 1)) == 2 for line in names)


@pytest.mark.parametrize("width", WIDTHS)
def test_the_width_is_that_of_a_real_terminal(width: int) -> None:
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, width, 0, 0))
    environment = {name: value for name, value in os.environ.items() if name != "COLUMNS"}
    command = [sys.executable, "-m", "moebench", "list", "strategies"]
    subprocess.run(command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment, check=True)
    os.close(theirs)
    said = os.read(ours, 100_000).decode()
    os.close(ours)
    assert "Bayesian" in said
    assert max(map(len, said.splitlines())) <= width


def test_verbs_print_through_the_screen_only() -> None:
    for path in (ROOT / "cli").rglob("*.py"):
        if path.name != "screen.py":
            text = path.read_text()
            assert "Console(" not in text, path
            assert text.count("typer.echo(") == {"main.py": 1, "clock.py": 1}.get(path.name, 0), path
