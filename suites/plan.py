"""The one planner: from names of suites to tasks, and to what must be said about them before they are measured."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from ..common.errors import UserError
from ..common.names import UnknownName, unknown
from ..execution.trial.task import Budget, Competitor, Observation, Task
from ..kernels.catalog import KERNELS
from ..kernels.problem.load import Load
from ..kernels.problem.trace import label
from ..results.record import CacheState, Point, Size
from ..results.references import PARTS
from .competitors import fitting
from .layer import NOTHING_ASKED, Asked
from .suite import SUITES, Suite, SuiteForm, SuitePoint
from .suite_file import suite_named

if TYPE_CHECKING:
    from ..execution.workers.worker import DeviceType

Configs = Literal["tuned", "default"]
"""The configurations of kernels: as tuned tables have them where there are some, or each kernel's default."""

# Small: enough samples for the two checks of every implementation to stay a small part of the whole. Reduced: on a GPU
# most of the time goes into compiling for each shape, and its clock is quieter.
BUDGETS: Final = {"small": Budget(seconds=1.0), "reduced": Budget(seconds=0.5), "full": Budget(seconds=10.0)}

OF_A_PART: Final = "computes a layer, and the point is of a part of one alone"


class NothingToMeasure(UserError):
    """No point is left to measure; the message says why."""


class CannotTime(UserError, ValueError):
    """Calls cannot be timed in the way that was asked for; the message says why, and which way there is."""


@dataclass(frozen=True)
class Plan:
    """The tasks to measure, in order, and sentences for the user."""

    tasks: list[Task]
    notes: list[str]


def plan(
    names: Sequence[str],
    *,
    size: Size,
    device_type: DeviceType,
    kernels: Sequence[str] = (),
    asked: Asked = NOTHING_ASKED,
    cache: CacheState = "cold",
    configs: Configs = "tuned",
    samples: int | None = None,
    asks: Collection[Observation] = (),
    interleave_with: Path | None = None,
) -> Plan:
    """Return what suites measure on a device. A suite is named, or is the path of a TOML file.

    Without ``kernels`` the competitors are those of the suites; with them, these compete wherever they do not refuse
    the problem, beside the suite's baseline. With ``asked`` the suites are asked of other layers; where only models are
    asked for, and the suites have points of each of them, these points are what is left. ``samples`` bounds the samples
    of each competitor; ``asks``, beside what the suites ask for, and ``interleave_with`` see `Task`.

    Raises:
        UnknownName: when there is no suite, size of a suite or kernel of a name.
        SuiteFileError: when a file is no suite.
        CannotTime: when the device has no such clock, or it can time none of the kernels.
        NothingToMeasure: when no point is left.
    """
    points, notes = chosen(names, size, asked)
    found = [_task(point, size, device_type) for point in points]
    if kernels:
        found, refusals = _replaced(found, kernels, device_type)
        notes += [f"{name} takes part at no point: {reason}" for name, reason in refusals.items()]
        if not found:
            raise NothingToMeasure(f"nothing to measure in {', '.join(names)}: {'; '.join(notes)}")
    found = [_sampled(task, samples, asks, interleave_with) for task in timed(found, cache, device_type)]
    if configs == "tuned":
        from .tuned import as_tuned  # noqa: PLC0415  # imports torch

        found, more = as_tuned(found, device_type)
        notes += more
    return Plan(found, notes + _repeated(found))


def _repeated(asked: Sequence[Task]) -> list[str]:
    """Return a sentence for each recorded load that has fewer tokens than a point asks for."""
    most: dict[str, int] = {}
    for task in asked:
        most[task.problem.load] = max(most.get(task.problem.load, 0), task.problem.T)
    return [
        f"load {label(load)} has {recorded:,} tokens, which are repeated for points of more, up to T={tokens}"
        for load, tokens in most.items()
        if (recorded := Load.parse(load).recorded_tokens) is not None and recorded < tokens
    ]


def tasks(name: str, size: Size, device_type: DeviceType) -> list[Task]:
    """Return the tasks of a suite, one for each of its points.

    Raises:
        UnknownName: when no suite has that name, or this one has no such form.
        SuiteFileError: when a file is no suite.
    """
    return [_task(point, size, device_type) for point in _own(name, size)]


def _form(name: str, suite: Suite, size: Size) -> SuiteForm:
    form = {"small": suite.small, "reduced": suite.reduced, "full": suite.full}[size]
    if form is None:
        reducible = ", ".join(other for other in SUITES.names() if SUITES.load(other).reduced)
        raise UnknownName(f"the suite {name} has no reduced form: give another size, or one of {reducible}")
    return form


@dataclass(frozen=True)
class ChosenPoint:
    """A point of one form of a suite, which the name is of."""

    name: str
    suite: Suite
    form: SuiteForm
    place: SuitePoint


def chosen(names: Sequence[str], size: Size, asked: Asked) -> tuple[list[ChosenPoint], list[str]]:
    """Return the points of suites, of their own layers or of those that are asked for, and sentences on the latter.

    Neither a kernel nor torch is imported.

    Raises:
        UnknownName, SuiteFileError, NothingToMeasure: as `plan`.
    """
    if asked.models or not asked:
        found = [point for name in names for point in _own(name, size)]
        of_models = [point for point in found if point.place.model in asked.models]
        if not asked or {point.place.model for point in of_models} == asked.models:
            return of_models or found, []
    found, left_out = [], dict[str, str]()
    for name in names:
        stem, suite = suite_named(name)
        form = _form(stem, suite, size)
        places, reasons = form.asked(asked)
        found += [ChosenPoint(stem, suite, form, place) for place in places]
        left_out |= dict.fromkeys(reasons, stem)
    if not found:
        first, *others = left_out
        more = f" (and {len(others)} more reasons)" if others else ""
        raise NothingToMeasure(f"no point of {', '.join(names)} is left: {first}{more}")
    return found, [f"{stem} leaves out a point: {reason}" for reason, stem in left_out.items()]


def _own(name: str, size: Size) -> list[ChosenPoint]:
    """Return all points of a form of a suite."""
    name, suite = suite_named(name)
    form = _form(name, suite, size)
    return [ChosenPoint(name, suite, form, place) for place in form.places]


def _task(of: ChosenPoint, size: Size, device_type: DeviceType) -> Task:
    suite, form, place = of.suite, of.form, of.place
    rule, baseline = fitting(place.competitors or form.competitors, form.baseline, place.problem, device_type)
    point = Point(
        suite=of.name,
        question=suite.question,
        axis=suite.axis,
        series=place.series,
        x=place.x,
        baseline=baseline,
        model=place.model,
        size=size,
    )
    competitors = tuple(Competitor(kernel=kernel, config=place.config) for kernel in rule.kernels(device_type))
    budget = BUDGETS[size]
    if form.seconds is not None:
        budget = dataclasses.replace(budget, seconds=form.seconds)
    return Task(point=point, problem=place.problem, competitors=competitors, budget=budget, asks=form.asks)


def _replaced(
    asked: Sequence[Task], kernels: Sequence[str], device_type: DeviceType
) -> tuple[list[Task], dict[str, str]]:
    """Return the tasks with these kernels beside the baseline, and why some of them can take part in none.

    A task that all of them refuse is left out, as is one of a part of the layer alone where they are layers.
    """
    import torch  # noqa: PLC0415  # a plan without named kernels does not need it

    from ..kernels.block_kernel import competing  # noqa: PLC0415  # imports torch

    for name in kernels:
        if name not in KERNELS.names():
            raise unknown("kernel", name, KERNELS.names())
    device, found, refusals = torch.device(device_type), [], dict[str, str]()
    for task in asked:
        named = {name: competing(name, task.problem) for name in kernels}
        reasons = {name: kernel.supports(task.problem, device) for name, kernel in named.items()}
        if all(who.kernel in PARTS for who in task.competitors):
            reasons = {name: reason if name in PARTS else OF_A_PART for name, reason in reasons.items()}
        refusals |= {name: reason for name, reason in reasons.items() if reason and name not in refusals}
        takers = [name for name, reason in reasons.items() if reason is None]
        if takers:
            config = task.competitors[0].config
            others = [who for who in task.competitors if who.kernel not in takers]
            baseline = [who for who in others if who.kernel == task.point.baseline]
            taking = [Competitor(kernel=name, config=config) for name in takers]
            found.append(dataclasses.replace(task, competitors=(*baseline, *taking)))
    left = {who.kernel for task in found for who in task.competitors}
    return found, {name: reason for name, reason in refusals.items() if name not in left}


def timed(asked: Sequence[Task], cache: CacheState, device_type: DeviceType) -> list[Task]:
    """Return the tasks with their calls timed in this way, on lines of their own: one file may hold them all.

    Raises:
        CannotTime: when the device has no such clock, or it can time none of the kernels.
    """
    if cache == "hot" and device_type == "cpu":
        raise CannotTime("hot replays a CUDA graph, and the device is cpu: use cold or eager")
    kernels = {who.kernel for task in asked for who in task.competitors}
    if cache == "hot" and all(KERNELS.load(kernel).between_ranks for kernel in kernels):
        raise CannotTime("hot replays a CUDA graph, and dispatchers between ranks wait for the host: use cold or eager")
    return [dataclasses.replace(task, point=task.point.model_copy(update={"cache": cache})) for task in asked]


def _sampled(task: Task, samples: int | None, asks: Collection[Observation], interleave_with: Path | None) -> Task:
    return dataclasses.replace(
        task,
        budget=dataclasses.replace(task.budget, samples=samples),
        asks=tuple(dict.fromkeys((*task.asks, *asks))),
        interleave_with=interleave_with and interleave_with.resolve(),
    )
