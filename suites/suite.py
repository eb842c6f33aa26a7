"""What a suite is: a question, and the places where it is asked."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from ..common.errors import UserError
from ..common.names import UnknownName
from ..common.plugins import Catalog
from ..execution.trial.task import Budget, Competitor, Task
from ..kernels.catalog import KERNELS
from ..kernels.config import Config
from ..kernels.problem import Problem
from ..results.record import CacheState, Point, Size
from ..results.references import REFERENCES
from .sweeps._shapes import DISPATCHERS

# Small: enough samples for the two checks of every implementation to stay a small part of the whole. Reduced: on a GPU
# most of the time goes into compiling for each shape, and its clock is quieter.
BUDGETS = {"small": Budget(seconds=1.7), "reduced": Budget(seconds=0.5), "full": Budget(seconds=10.0)}


@dataclass(frozen=True, kw_only=True)
class SuitePoint:
    """One problem, on the line ``series`` at ``x`` of the suite's axis; ``kernels`` empty means the form's.

    They run in their default or tuned configurations, or in the default but for what ``config`` says. ``model`` is the
    name of the released model whose shape it is.
    """

    series: str
    x: float | str
    problem: Problem
    model: str | None = None
    kernels: tuple[str, ...] = ()
    config: Config | None = None


@dataclass(frozen=True, kw_only=True)
class SuiteForm:
    """Where a suite asks and who answers; ``baseline`` is the kernel that others are compared with.

    ``kernels`` empty means every kernel there is. The forms for a GPU are asked with hot caches too, so their baseline
    must not wait for the host: a CUDA graph could not hold its call.
    """

    baseline: str
    places: tuple[SuitePoint, ...]
    kernels: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Suite:
    """A question about a sweep. Its name is the name of its file; the file's ``suite`` is its one instance.

    ``axis`` titles the places' ``x``, with its unit. ``small`` fits two CPU cores, ``full`` wants a GPU and time,
    ``reduced`` a GPU and a minute or two; not every suite has the latter. ``beyond`` are numbers of ranks for which its
    lines are predicted where a machine is described, each rank with as many tokens as where it is measured.
    """

    question: str
    axis: str
    small: SuiteForm
    full: SuiteForm
    reduced: SuiteForm | None = None
    beyond: tuple[int, ...] = ()


class CannotTime(UserError, ValueError):
    """Calls cannot be timed in the way that was asked for; the message says why, and which way there is."""


SUITES: Catalog[Suite] = Catalog("suite", f"{__package__}.sweeps", "suite")


def tasks(name: str, size: Size) -> list[Task]:
    """The tasks of a suite, one for each place.

    Raises:
        UnknownName: when no suite has that name, or this one has no such form.
    """
    suite = SUITES.load(name)
    form = {"small": suite.small, "reduced": suite.reduced, "full": suite.full}[size]
    if form is None:
        reducible = ", ".join(other for other in SUITES.names() if SUITES.load(other).reduced)
        raise UnknownName(f"the suite {name} has no reduced form: give another size, or one of {reducible}")
    everyone = tuple(kernel for kernel in KERNELS.names() if kernel not in REFERENCES)
    return [
        Task(
            point=Point(
                suite=name,
                question=suite.question,
                axis=suite.axis,
                series=place.series,
                x=place.x,
                baseline=form.baseline,
                model=place.model,
                size=size,
            ),
            problem=place.problem,
            competitors=tuple(
                Competitor(kernel=kernel, config=place.config) for kernel in place.kernels or form.kernels or everyone
            ),
            budget=BUDGETS[size],
        )
        for place in form.places
    ]


def timed(tasks: Sequence[Task], cache: CacheState, device_type: Literal["cpu", "cuda"]) -> list[Task]:
    """The tasks with their calls timed in this way, on lines of their own: one file may hold them all.

    Raises:
        CannotTime: when there is no such clock on the device, or it can time none of the kernels.
    """
    if cache == "cold":
        return list(tasks)
    if cache == "hot" and device_type == "cpu":
        raise CannotTime("hot replays a CUDA graph, and the device is cpu: use cold or eager")
    if cache == "hot" and all(who.kernel in DISPATCHERS for task in tasks for who in task.competitors):
        raise CannotTime("hot replays a CUDA graph, and dispatchers between ranks wait for the host: use cold or eager")
    return [dataclasses.replace(task, point=task.point.model_copy(update={"cache": cache})) for task in tasks]
