"""What `pytest suites` may be asked, and how it measures. Imported by pytest itself: nothing here is relative."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from functools import cache
from typing import get_args

import pytest

from moebench.common.names import UnknownName
from moebench.execution.trial.task import Competitor, Task
from moebench.execution.workers.supervisor import Supervisor
from moebench.execution.workers.worker import DeviceType
from moebench.results.pytest_benchmark import place_of
from moebench.results.record import Record, Size
from moebench.suites.suite import tasks

QUICK = ("smoke",)
POINTS = pytest.StashKey[dict[tuple[str, str], Task]]()

Measure = Callable[[str, str, int | None], dict[str, Record]]


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("moebench")
    group.addoption("--suite", action="append", metavar="NAME", help="Suite to measure; may be given again (smoke).")
    group.addoption("--size", choices=get_args(Size), default="small", help="The form of the suites (small).")
    group.addoption("--device", choices=get_args(DeviceType), default="cpu", help="What to measure on (cpu).")


def pytest_configure(config: pytest.Config) -> None:
    suites, size = config.getoption("suite") or QUICK, config.getoption("size")
    try:
        found = [task for name in suites for task in tasks(name, size)]
    except UnknownName as error:
        raise pytest.UsageError(str(error)) from error
    config.stash[POINTS] = {
        (task.point.suite, place_of(task.point, dataclasses.asdict(task.problem))): task for task in found
    }


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    points = metafunc.config.stash[POINTS].items()
    metafunc.parametrize(
        ("suite", "place", "kernel"), [(*at, who.kernel) for at, task in points for who in task.competitors]
    )


def _arguments(item: pytest.Function) -> tuple[str, str, str]:
    given: dict[str, str] = item.callspec.params  # type: ignore[assignment]  # as `pytest_generate_tests` gave them
    return given["suite"], given["place"], given["kernel"]


@pytest.fixture(scope="session")
def measure(request: pytest.FixtureRequest) -> Iterator[Measure]:
    """Records by kernel of all benchmarks selected at a place of a suite, interleaved when the first of them asks.

    With a number of samples no more than these are taken.
    """
    selected: dict[tuple[str, str], list[Competitor]] = {}
    for item in request.session.items:
        if isinstance(item, pytest.Function) and "measure" in item.fixturenames:
            suite, place, kernel = _arguments(item)
            selected.setdefault((suite, place), []).append(Competitor(kernel=kernel))
    kernels = sorted({who.kernel for together in selected.values() for who in together})
    with Supervisor(request.config.getoption("device"), kernels) as isolated:

        @cache
        def measured(suite: str, place: str, samples: int | None) -> dict[str, Record]:
            task = request.config.stash[POINTS][suite, place]
            budget = dataclasses.replace(task.budget, samples=samples)
            task = dataclasses.replace(task, competitors=tuple(selected[suite, place]), budget=budget)
            return {record.kernel: record for record in isolated.run(task)}

        yield measured
