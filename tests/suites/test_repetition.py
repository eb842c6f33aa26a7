"""The command of a page plans the points of its records again, and says what it cannot know."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from moebench.cli.main import app
from moebench.execution.trial.task import Task
from moebench.reports.section import Section, sections
from moebench.results.record import Record
from moebench.results.record.store import load
from moebench.suites import plan as planner
from moebench.suites.plan import plan, tasks
from moebench.suites.repetition import reproduction
from moebench.suites.suite import SUITES

RECORDED = Path(__file__).parents[2] / "results" / "recorded"
SMOKE = load(RECORDED / "cpu-main.jsonl").records[0]


class _Planned(Exception):  # no error: it carries what was planned out of the command
    def __init__(self, found: Any) -> None:
        self.found = found


def _sections(name: str) -> list[Section]:
    return sections(load(RECORDED / name).records)


def _records(found: list[Task]) -> list[Record]:
    """Return a record for the first competitor of each task, as a run would write it."""
    return [
        SMOKE.model_copy(
            update={
                "point": task.point,
                "key": task.problem.key,
                "problem": dataclasses.asdict(task.problem),
                "kernel": task.competitors[0].kernel,
            }
        )
        for task in found
    ]


@pytest.fixture
def planned(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], list[Task]]:
    """Run a command of `moebench run` up to its plan, and return the tasks."""

    def stop(*names: Any, **options: Any) -> None:
        raise _Planned(plan(*names, **options).tasks)

    def run(command: str) -> list[Task]:
        program, *words = shlex.split(command)
        assert program == "moebench"
        with monkeypatch.context() as patched:
            patched.setattr(planner, "plan", stop)
            answer = CliRunner().invoke(app, words)
        assert isinstance(answer.exception, _Planned), answer.output
        found: list[Task] = answer.exception.found
        return found

    return run


def _places(found: list[Task]) -> set[tuple[object, ...]]:
    return {(task.point.series, task.point.x, task.problem.key, task.point.cache) for task in found}


@pytest.mark.parametrize(
    "name", ["cpu-main.jsonl", "cpu-peers.jsonl", "cpu-peers-zen4.jsonl", "cpu-router-share.jsonl"]
)
def test_the_command_of_recorded_suites_plans_their_points(name: str, planned: Callable[[str], list[Task]]) -> None:
    for section in _sections(name):
        found = reproduction(section.records)
        assert found.note == ""
        (command,) = found.commands
        wanted = {(one.point.series, one.point.x, one.key, one.point.cache) for one in section.records}
        assert _places(planned(command)) == wanted


ASKED = [
    "smoke --size small",
    "tokens --size small --tokens 64",
    "capacity --size full",
    "experts --size reduced",
    "models --size small --model Mixtral-8x7B,Qwen3-30B-A3B",
    "models --size small --model Qwen3-30B-A3B --width 256 --tokens 128",
    "skew --size small --dtype bfloat16",
    "smoke --size small --mode train",
    "experts --size small --shape D=64,F=32,E=8,K=2",
    "smoke --size small --cache eager",
    "capacity --size small --router sigmoid_topk",
    "tokens --size small --load zipf:1.1 --tokens 32,64",
]


@pytest.mark.parametrize("words", ASKED)
def test_what_was_asked_for_is_asked_for_again(words: str, planned: Callable[[str], list[Task]]) -> None:
    first = planned(f"moebench run {words} --device cpu")
    found = reproduction(_records(first))
    (command,) = found.commands
    assert found.note == ""
    assert _places(planned(command)) == _places(first)


@pytest.mark.parametrize("name", SUITES.names())
def test_a_suite_as_it_is_needs_no_more_words_than_its_size(name: str) -> None:
    small = _records(tasks(name, "small", "cpu"))
    assert reproduction(small).commands == (f"moebench run {name} --size small --device cpu",)


def test_points_that_are_missing_and_more_are_counted(planned: Callable[[str], list[Task]]) -> None:
    smoke = _records(tasks("smoke", "small", "cpu"))
    found = reproduction(smoke[:-1])
    assert "1 points more" in found.note
    assert _places(planned(*found.commands)) >= {(o.point.series, o.point.x, o.key, o.point.cache) for o in smoke[:-1]}
    stranger = smoke[0].model_copy(update={"key": "of another time"})
    assert "of the 6 points" in reproduction([*smoke, stranger]).note


def test_no_command_is_made_up() -> None:
    other = SMOKE.model_copy(update={"point": SMOKE.point.model_copy(update={"suite": "mine; rm -rf /"})})
    assert reproduction([other]).commands == ()
    assert "is no suite of this moebench" in reproduction([other]).note
    stranger = SMOKE.model_copy(update={"key": "x"})
    assert reproduction([stranger]).commands == ()
    assert "No command" in reproduction([stranger]).note


def test_every_way_of_timing_has_its_command() -> None:
    cold = _records(tasks("smoke", "small", "cpu"))
    eager = [one.model_copy(update={"point": one.point.model_copy(update={"cache": "eager"})}) for one in cold]
    assert reproduction([*cold, *eager]).commands == (
        "moebench run smoke --size small --device cpu",
        "moebench run smoke --size small --device cpu --cache eager",
    )


@pytest.fixture
def tuned(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], tuple[list[Any], dict[str, Any]]]:
    """Run a command of `moebench tune` up to its plan, and return the problems and the options of the search."""

    def stop(_: Any, problems: Any, **options: Any) -> None:
        raise _Planned((problems, options))

    def run(command: str) -> tuple[list[Any], dict[str, Any]]:
        answer = CliRunner().invoke(app, shlex.split(command)[1:])
        assert isinstance(answer.exception, _Planned), answer.output
        found: tuple[list[Any], dict[str, Any]] = answer.exception.found
        return found

    monkeypatch.setattr("moebench.cli.tuning.tune_options.plan_of", stop)
    return run


@pytest.mark.parametrize("name", ["cpu-tuned.jsonl", "cpu-tuned-loads.jsonl", "cpu-sweeps-others.jsonl"])
def test_the_commands_of_a_tuning_run_search_the_same_problems(
    name: str, tuned: Callable[[str], tuple[list[Any], dict[str, Any]]]
) -> None:
    (section,) = _sections(name)
    asked = [tuned(command) for command in reproduction(section.records).commands]
    searched = {problem.key for problems, _ in asked for problem in problems}
    held_out = {problem.key for _, options in asked for problem in options["held_out"]}
    stages = {stage: {r.key for r in section.records if r.point.stage == stage} for stage in ("search", "held-out")}
    assert searched | held_out == stages["search"]
    assert held_out == stages["held-out"]
    loads = {load for problems, options in asked for load in (*options["loads"], problems[0].load)}
    assert loads == {record.problem["load"] for record in section.records}
