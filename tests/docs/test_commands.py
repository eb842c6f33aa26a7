"""Every command that the documentation shows is one that its program takes; some are run, scaled down."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import typer
from pages import ROOT, Command, commands
from quick_start import python_m
from typer.testing import CliRunner

from moebench.autotune.search.strategy import STRATEGIES
from moebench.cli.main import app
from moebench.kernels.catalog import KERNELS
from moebench.kernels.problem.models import MODELS
from moebench.suites.suite import SUITES

ALL = commands()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
EXTRAS = set(PROJECT["project"]["optional-dependencies"])
GROUPS = set(PROJECT["dependency-groups"])
SESSIONS = {"bench": "run", "gpu": "firstlight", "regression": "gate", "report": "report", "tune": "tune"}
"""Sessions of nox that hand their arguments to a verb of `moebench`."""
SHELL = {"cd", "export", "git"}
"""Commands of the shell itself, and of others, whose arguments are no promise of this project."""
NAMES = {
    "kernel": set(KERNELS.names()),
    "model": {model.name for model in MODELS},
    "strategy": {*STRATEGIES.names(), "all"},
    "suites": set(SUITES.names()),
}
"""What parameters of the verbs may name."""

SCALED = {
    "moebench list kernels": "",
    "moebench list models": "",
    "moebench list suites": "",
    "moebench report runs/tokens.jsonl -o tokens.csv": "",
    "moebench export runs/tokens.jsonl -o tokens.json": "",
    "moebench compare old.jsonl new.jsonl": "",
    "moebench tables show": "",
    "moebench predict --model DeepSeek-V3 --machine dgx-h100 --ranks 8..64": "",
    "moebench counters --kernel scatter": "moebench counters --kernel dense",
}
"""Commands of the documentation that are run here, as what; nothing means as they are."""


def of(*programs: str) -> list[Command]:
    return [command for command in ALL if command.words[0] in programs]


def parsed(words: Sequence[str]) -> dict[str, Any]:
    """Parse a command line of `moebench` without running it, and return the parameters of its verb."""
    command: Any = typer.main.get_command(app)
    words = list(words)
    while hasattr(command, "commands"):
        name = words.pop(0)
        assert name in command.commands, f"there is no verb {name}"
        command = command.commands[name]
    parameters: dict[str, Any] = command.make_context(command.name, words).params
    return parameters


def check_names(words: Sequence[str]) -> None:
    """Parse a command line of `moebench` and require that the kernels, suites, … that it names exist."""
    parameters = parsed(words)
    for parameter, known in NAMES.items():
        value = parameters.get(parameter) or []
        for name in [value] if isinstance(value, str) else value:
            if name.endswith(".toml") or name.startswith("./"):
                continue  # a file or a folder of the reader's own
            assert name in known, f"{parameter} {name} is unknown"


def check_moebench(words: Sequence[str]) -> None:
    """Check a command line that may still stand for any kernel, KERNEL, or any files, FILE and DIR."""
    check_names(
        [{"KERNEL": "scatter", "NAME": "scatter", "MODEL": "Mixtral-8x7B", "SUITE": "smoke"}.get(w, w) for w in words]
    )


def sessions() -> set[str]:
    """Return the names of the sessions in noxfile.py."""
    names = set()
    for node in ast.parse((ROOT / "noxfile.py").read_text()).body:
        if isinstance(node, ast.FunctionDef):
            for decorator in map(ast.unparse, node.decorator_list):
                if decorator.startswith("nox.session"):
                    match = re.search(r"name='([^']+)'", decorator)
                    names.add(match[1] if match else node.name)
    return names


@pytest.mark.parametrize("command", of("moebench"), ids=str)
def test_moebench_takes_the_command(command: Command) -> None:
    check_moebench(command.words[1:])


@pytest.mark.parametrize("command", of("torchrun"), ids=str)
def test_torchrun_starts_a_command_of_moebench(command: Command) -> None:
    from torch.distributed.run import parse_args  # noqa: PLC0415 - slow to import, and for these commands only

    options = parse_args(list(command.words[1:]))
    assert options.no_python
    assert options.training_script == "moebench"
    check_moebench(options.training_script_args)


@pytest.mark.parametrize("command", of("nox"), ids=str)
def test_nox_has_the_session(command: Command) -> None:
    words = list(command.words[1:])
    own, handed = (words[: words.index("--")], words[words.index("--") + 1 :]) if "--" in words else (words, [])
    named = own[own.index("-s") + 1 :]
    assert named
    assert set(named) <= sessions()
    if handed and named[0] in SESSIONS:
        check_moebench([SESSIONS[named[0]], *handed])


@pytest.mark.parametrize("command", of("pip"), ids=str)
def test_pip_installs_what_the_project_declares(command: Command) -> None:
    text = " ".join(command.words)
    for extras in re.findall(r"\.\[([^]]+)\]", text):
        assert set(extras.split(",")) <= EXTRAS
    assert set(re.findall(r"--group (\S+)", text)) <= GROUPS
    for constraints in re.findall(r"(?:-c|--constraint) (\S+)", text):
        assert (ROOT / constraints).exists()


def test_pytest_knows_the_options() -> None:
    shown = of("pytest")
    assert shown
    known = python_m("pytest", "suites", "-W", "ignore", "--help", cwd=ROOT).stdout
    for command in shown:
        for word in command.words[1:]:
            if word.startswith("--"):
                assert re.search(rf"{re.escape(word.partition('=')[0])}\b", known), f"{command}: pytest has no {word}"
            elif "/" in word or word == "suites":
                assert (ROOT / word).exists(), command


@pytest.mark.parametrize("command", of("python"), ids=str)
def test_python_runs_the_statement_module_or_file(command: Command) -> None:
    what, *words = command.words[1:]
    if what == "-c":
        compile(words[0], str(command), "exec")
    elif what == "-m":
        hub_folder = "moebench.integrations.kernels_hub.hub_folder"
        assert words[0] in {"moebench.cli.main", hub_folder, "pip", "pytest", "zipfile"}
        if words[0] == "moebench.cli.main":
            check_moebench(words[1:])
    else:
        assert (ROOT / what).exists()


def test_no_command_is_of_a_program_without_a_check() -> None:
    checked = {"moebench", "nox", "pip", "pytest", "pytest-benchmark", "python", "torchrun"}
    assert [str(command) for command in ALL if command.words[0] not in checked | SHELL] == []


def test_commands_that_are_run_are_shown() -> None:
    shown = {" ".join(command.words) for command in ALL}
    assert set(SCALED) - shown == set()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a folder with files of records as the documentation names them, and enter it."""
    records = (ROOT / "results/recorded/cpu-main.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "runs").mkdir()
    for name, processes in {"runs/tokens.jsonl": 1, "old.jsonl": 6, "new.jsonl": 6}.items():
        (tmp_path / name).write_text("".join(records[:21] * processes))
    (tmp_path / "results").symlink_to(ROOT / "results")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("shown", SCALED)
def test_scaled_command_runs(shown: str) -> None:
    words = (SCALED[shown] or shown).split()
    ended = CliRunner().invoke(app, words[1:])
    assert ended.exit_code == 0, ended.output
    assert ended.output


@pytest.mark.slow
@pytest.mark.usefixtures("folder")
def test_the_main_job_measures_reports_and_exports() -> None:
    moebench = shutil.which("moebench", path=Path(sys.executable).parent) or "moebench"
    run = [moebench, "run", "smoke", "--kernel", "scatter", "--model", "Mixtral-8x7B", "--output", "runs/smoke.jsonl"]
    for command in (run, [moebench, "report", "runs/smoke.jsonl"], [moebench, "doctor"]):
        subprocess.run(command, check=True, capture_output=True)
    assert Path("runs/smoke.html").exists()
