"""Options of `pytest suites`, and how it measures.

pytest imports this file and `bench_dispatch.py` as modules of a package `suites`: their imports are not relative.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from functools import cache
from typing import get_args

import pytest

from moebench.common.errors import UserError
from moebench.execution.trial.task import Task
from moebench.execution.workers.supervisor import Supervisor
from moebench.execution.workers.worker import DeviceType
from moebench.results.benchmark_names import place_of
from moebench.results.record import Record, Size
from moebench.suites.plan import plan

QUICK = ("smoke",)
POINTS = pytest.StashKey[dict[tuple[str, str], Task]]()
NOTES = pytest.StashKey[list[str]]()

Measure = Callable[[str, str, int | None], dict[str, Record]]


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("moebench")
    group.addoption("--suite", action="append", metavar="NAME", help="Suite to measure; may be given again (smoke).")
    group.addoption("--size", choices=get_args(Size), default="small", help="The form of the suites (small).")
    group.addoption("--device", choices=get_args(DeviceType), default="cpu", help="What to measure on (cpu).")


def pytest_configure(config: pytest.Config) -> None:
    suites, size = config.getoption("suite") or QUICK, config.getoption("size")
    try:
        planned = plan(suites, size=size, device_type=config.getoption("device"))
    except UserError as error:
        raise pytest.UsageError(str(error)) from error
    config.stash[NOTES] = planned.notes
    config.stash[POINTS] = {
        (task.point.suite, place_of(task.point, dataclasses.asdict(task.problem))): task for task in planned.tasks
    }


def pytest_report_header(config: pytest.Config) -> list[str]:
    return [f"moebench: {note}" for note in config.stash[NOTES]]


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
    """Return the function that measures the benchmarks selected at a place of a suite, all of them at its first call.

    It returns their records by kernel. Given a number of samples, it takes no more of each.
    """
    selected: dict[tuple[str, str], list[str]] = {}
    for item in request.session.items:
        if isinstance(item, pytest.Function) and "measure" in item.fixturenames:
            suite, place, kernel = _arguments(item)
            selected.setdefault((suite, place), []).append(kernel)
    kernels = sorted({kernel for together in selected.values() for kernel in together})
    with Supervisor(request.config.getoption("device"), kernels) as isolated:

        @cache
        def measured(suite: str, place: str, samples: int | None) -> dict[str, Record]:
            task = request.config.stash[POINTS][suite, place]
            competitors = tuple(who for who in task.competitors if who.kernel in selected[suite, place])
            budget = dataclasses.replace(task.budget, samples=samples)
            task = dataclasses.replace(task, competitors=competitors, budget=budget)
            return {record.kernel: record for record in isolated.run(task)}

        yield measured
