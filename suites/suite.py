"""What a suite is: a question, and the places where it is asked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ..autotune.task import Budget, Competitor, Task
from ..kernels.catalog import KERNELS, Catalog
from ..kernels.problem import Problem
from ..results.record import Point

Size = Literal["small", "full"]

REFERENCES = ("dense",)  # rates to compare with, not competitors: a suite asks for them by name
# Small: enough samples for the two checks of every implementation to stay a small part of the whole.
BUDGETS = {"small": Budget(seconds=1.7), "full": Budget(seconds=10.0)}


@dataclass(frozen=True, kw_only=True)
class Place:
    """One problem, on the line ``series`` at ``x`` of the suite's axis; ``kernels`` empty means the suite's."""

    series: str
    x: float | str
    problem: Problem
    kernels: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Suite:
    """A question about a sweep. Its name is the name of its file; the file's ``suite`` is its one instance.

    ``axis`` titles the places' ``x``, with its unit; ``baseline`` is the kernel that others are compared with;
    ``kernels`` empty means every kernel there is. ``small`` fits two CPU cores, ``full`` wants a GPU.
    """

    question: str
    axis: str
    baseline: str
    small: tuple[Place, ...]
    full: tuple[Place, ...]
    kernels: tuple[str, ...] = ()

    def places(self, size: Size) -> tuple[Place, ...]:
        return self.small if size == "small" else self.full


SUITES: Catalog[Suite] = Catalog("suite", f"{__package__}.sweeps", "suite")


def tasks(name: str, size: Size) -> list[Task]:
    """The tasks of a suite, one for each place.

    Raises:
        UnknownName: when no suite has that name.
    """
    suite = SUITES.load(name)
    everyone = tuple(kernel for kernel in KERNELS.names() if kernel not in REFERENCES)
    return [
        Task(
            point=Point(
                suite=name,
                question=suite.question,
                axis=suite.axis,
                series=place.series,
                x=place.x,
                baseline=suite.baseline,
            ),
            problem=place.problem,
            competitors=tuple(Competitor(kernel=kernel) for kernel in place.kernels or suite.kernels or everyone),
            budget=BUDGETS[size],
        )
        for place in suite.places(size)
    ]
