"""The declared steps: their order, time limits, files and command lines."""

from __future__ import annotations

import dataclasses
import importlib
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import pytest
import typer

from moebench.cli.main import app
from moebench.common.names import UnknownName
from moebench.suites.firstlight import device_check, session_steps, tools
from moebench.suites.firstlight.forms import COMPLETING, GPU, MEASURED, REHEARSAL, SessionForm, form
from moebench.suites.firstlight.process import GRACE_S
from moebench.suites.firstlight.session_step import SessionStep
from moebench.suites.firstlight.session_steps import STAGES, declared, page
from moebench.suites.plan import tasks

FORMS = pytest.mark.parametrize("of", [GPU, REHEARSAL], ids=lambda of: of.name)
NINE_MINUTES_S = 540
ORDER = [
    ("1.1", "machine"), ("1.2", "check"), ("1.2", "tests"), ("1.3", "compile"), ("1.4", "cold"), ("1.5", "clock"),
    ("1.5", "eager"), ("2.1", "variants"), ("2.2", "ncu"), ("2.3", "compute-sanitizer"), ("2.4", "trace"),
    ("3.1", "tune-fine"), ("3.1", "tune-model"), ("3.2", "hot"), ("3.3", "complete"), ("3.4", "peers"),
    ("3.5", "sweep"), ("3.5", "predicted"),
]  # fmt: skip


def of_stage(of: SessionForm, stage: str) -> list[SessionStep]:
    return [step for step in declared(of, tests=Path("/tests")) if step.stage == stage]


@FORMS
def test_both_forms_have_the_same_steps_in_the_order_of_their_worth(of: SessionForm) -> None:
    assert [(step.number, step.name) for step in declared(of, tests=None)] == ORDER
    assert {step.stage for step in declared(of, tests=None)} == set(STAGES)


@FORMS
@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_takes_under_nine_minutes_whatever_its_steps_do(of: SessionForm, stage: str, tmp_path: Path) -> None:
    limits = [step.limit_s for step in (*of_stage(of, stage), page(tmp_path))]
    assert device_check.LIMIT_S + sum(limits) < NINE_MINUTES_S
    assert min(limits) > 2 * GRACE_S


@FORMS
def test_steps_write_different_files_and_say_what_they_find_out(of: SessionForm) -> None:
    found = declared(of, tests=None)
    files = [file for step in found for file in step.files]
    assert len(set(files)) == len(files)
    assert all(Path(file).name == file for file in files)
    assert all(step.worth and "\n" not in step.worth for step in found)


def test_training_is_measured_last() -> None:
    modes = [task.problem.mode for suite in MEASURED for task in tasks(suite, "reduced", "cuda")]
    assert modes == sorted(modes)  # forward, then train
    assert set(modes) == {"forward", "train"}


def test_everything_that_suites_measure_on_a_gpu_is_compiled_before() -> None:
    asked = {task.problem for suite in (*MEASURED, *COMPLETING, "tokens") for task in tasks(suite, "reduced", "cuda")}
    assert set(GPU.precompiled) == asked


@FORMS
def test_programs_are_modules_and_everything_else_is_a_verb_pytest_or_a_tool(of: SessionForm) -> None:
    for step in declared(of, tests=Path("/tests")):
        words = list(step.command)
        if step.name in ("ncu", "compute-sanitizer"):
            words = words[len(words) - 5 :]
        assert words[0] == sys.executable
        assert words[1] == "-m"
        module = words[2]
        assert "nox" not in words
        if module.startswith(session_steps.__package__):
            assert callable(importlib.import_module(module).main)
        else:
            assert module in ("moebench.cli.main", "pytest")


VERBS = [
    pytest.param(step, id=f"{of.name} {step.name}")
    for of in (GPU, REHEARSAL)
    for step in declared(of, tests=None)
    if "moebench.cli.main" in step.command
]


@pytest.mark.parametrize("step", VERBS)
def test_verbs_accept_their_command_lines(step: SessionStep) -> None:
    """The command lines for a GPU are parsed too, on a machine without one."""
    name, *words = step.command[3:]
    command = typer.main.get_command(app)
    assert isinstance(command, typer.core.TyperGroup)
    verb = command.commands[name]
    verb.make_context(name, list(words))  # parses, and raises where it does not understand


@FORMS
def test_what_is_measured_ignores_what_was_tuned_on_the_machine(of: SessionForm) -> None:
    runs = [step.command for step in declared(of, tests=None) if "run" in step.command]
    assert len(runs) == 4
    assert all(" --configs default " in f" {' '.join(command)} " for command in runs)


def test_tests_run_in_eight_processes_with_warnings_left_alone_and_their_report_kept() -> None:
    (step,) = (step for step in declared(GPU, tests=Path("/checkout/tests")) if step.name == "tests")
    words = " ".join(step.command)
    assert "-n 8 --dist loadgroup" in words
    assert "-W default --continue-on-collection-errors" in words
    assert "--junitxml tests.xml" in words
    assert words.endswith("/checkout/tests")
    assert not step.obstacle


def without(names: Sequence[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session_steps, "find_spec", lambda name: None if name in names else find_spec(name))


def test_without_xdist_the_tests_run_in_one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    without(["xdist"], monkeypatch)
    (step,) = (step for step in declared(GPU, tests=Path("/tests")) if step.name == "tests")
    assert not {"-n", "8", "--dist", "loadgroup"} & set(step.command)
    assert not step.obstacle


def test_without_pytest_or_a_checkout_the_tests_are_skipped_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    (here,) = (step for step in declared(GPU, tests=None) if step.name == "tests")
    assert "--tests" in here.obstacle
    without(["pytest"], monkeypatch)
    found = declared(GPU, tests=Path("/tests"))
    assert {step.name: step.obstacle for step in found if "pytest" in step.obstacle} == {
        "tests": "pytest is not installed; bring its wheel along (docs/gpu.md)"
    }


def test_a_tool_is_looked_for_in_path_and_where_cuda_keeps_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.setenv("CUDA_HOME", str(tmp_path))
    monkeypatch.setattr(tools, "PLACES", ())
    assert tools.tool("ncu", real=True) is None
    (step,) = (step for step in declared(GPU, tests=None) if step.name == "ncu")
    assert step.obstacle.startswith("ncu is not found")
    (tmp_path / "bin").mkdir()
    executable = tmp_path / "bin" / "ncu"
    executable.write_text("#!/bin/sh\n")
    executable.chmod(0o755)
    assert tools.tool("ncu", real=True) == (str(executable),)


def test_the_page_reports_all_records_and_nothing_else(tmp_path: Path) -> None:
    assert page(tmp_path).obstacle
    for name in ("hot.jsonl", "cold.jsonl", "machine.json"):
        (tmp_path / name).touch()
    words = page(tmp_path).command
    assert words[words.index("report") + 1 :] == ("cold.jsonl", "hot.jsonl", "--output", "page.html")
    assert not page(tmp_path).obstacle


def test_an_unknown_form_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(UnknownName, match="did you mean rehearsal"):
        form("rehersal")


def test_every_choice_is_checked_in_every_element_type() -> None:
    keys = {(problem.dtype, problem.mode, problem.capacity_factor) for problem in GPU.checks}
    assert len(keys) == len(GPU.checks) == 3 * 2 * 2
    assert {problem.T for problem in GPU.checks} == {300}
    assert dataclasses.replace(GPU, check=REHEARSAL.check).checks == REHEARSAL.checks
