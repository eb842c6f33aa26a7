"""The parts of a suite: a question, the layers that it is asked of, and the points that a sweep makes of each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from ..common.plugins import Catalog
from ..kernels.problem import InvalidProblem, Problem
from ..kernels.problem.trace import label
from .competitors import CompetitorRule
from .layer import Asked, Layer

if TYPE_CHECKING:
    from ..execution.trial.task import Observation
    from ..kernels.config import Config


@dataclass(frozen=True, kw_only=True)
class SuitePoint:
    """One problem, on the line ``series`` at ``x`` of the suite's axis.

    ``competitors`` is None where the rule of the form holds. They run in their default or tuned configurations, or in
    the default but for what ``config`` says. ``model`` is the name of the released model whose shape the problem has.
    """

    series: str
    x: float | str
    problem: Problem
    model: str | None = None
    competitors: CompetitorRule | None = None
    config: Config | None = None


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """A layer and the points that are made of it: ``point`` takes the layer and one of the values.

    It also takes any other layer, on which a user has fixed some fields: it reads series and x from the problem that it
    makes, with `Layer.changed`. A sweep without values makes one point, of the value None.
    """

    layer: Layer
    point: Callable[[Layer, Any], SuitePoint]
    values: tuple[Any, ...] = (None,)

    def places(self) -> Iterator[SuitePoint]:
        """Yield the points of its layer."""
        return (self.point(self.layer, value) for value in self.values)


@dataclass(frozen=True, kw_only=True)
class SuiteForm:
    """The points of a suite and who competes there; ``baseline`` is the kernel that others are compared with.

    ``also`` are points that belong to no sweep; they are asked of no other layer. ``asks`` are observations that take
    many calls (`Task.asks`). ``seconds`` are those of one competitor's timed calls, fewer where times are not the
    question or points are many, None for as many as the size has. The forms for a GPU are also measured
    with hot caches, so their baseline must not wait for the host: a CUDA graph could not hold its call.
    """

    baseline: str
    competitors: CompetitorRule
    sweeps: tuple[Sweep, ...]
    also: tuple[SuitePoint, ...] = ()
    asks: tuple[Observation, ...] = ()
    seconds: float | None = None

    @cached_property
    def places(self) -> tuple[SuitePoint, ...]:
        """All points."""
        return (*(place for sweep in self.sweeps for place in sweep.places()), *self.also)

    def asked(self, asked: Asked) -> tuple[list[SuitePoint], list[str]]:
        """Return the points that the sweeps make of the layers that a user asks for, and why some values make none.

        Sweeps whose own layers differ in what was asked make the same points, each of which is returned once.
        """
        places: list[SuitePoint] = []
        reasons: dict[str, None] = {}
        for layer, fields in asked.each():
            for sweep in self.sweeps:
                for value in sweep.values:
                    try:
                        used = sweep.layer.used_as(layer, fields)
                        place = _labelled(sweep.point(used, value), fields)
                    except InvalidProblem as error:
                        reasons[str(error)] = None
                        continue
                    if place not in places:
                        places.append(place)
        return _told_apart(places), list(reasons)


def _told_apart(places: list[SuitePoint]) -> list[SuitePoint]:
    """Return the points, those that tables would show alike on lines that name their tokens or their width."""

    def seen(place: SuitePoint) -> tuple[object, ...]:
        return place.series, place.x, place.problem.dtype, place.problem.mode

    for name in ("T", "D"):
        alike = Counter(map(seen, places))
        places = [
            replace(place, series=f"{place.series}, {name}={getattr(place.problem, name)}")
            if alike[seen(place)] > 1
            else place
            for place in places
        ]
    return places


def capacity_words(problem: Problem) -> str:
    """Return the capacity factor of a problem as lines are named by it."""
    return "dropless" if problem.capacity_factor is None else f"capacity factor {problem.capacity_factor:g}"


def rank_words(problem: Problem) -> str:
    """Return the ranks of a problem as lines are named by them."""
    return f"{_COUNTS.get(problem.ranks, problem.ranks)} ranks"


_COUNTS = {2: "two", 4: "four", 8: "eight"}
_WORDS: dict[str, Callable[[Problem], str]] = {
    "T": lambda problem: f"T={problem.T}",
    "capacity_factor": capacity_words,
    "capacity_rule": lambda problem: f"capacity by {problem.capacity_rule}",
    "drop": lambda problem: f"{problem.drop} kept",
    "load": lambda problem: label(problem.load),
    "ranks": rank_words,
    "router": lambda problem: problem.router,
    "block": lambda problem: problem.block or "experts alone",
}
"""The names of fields that a user may fix, for the names of lines. Tables show dtype and mode themselves."""


def _labelled(place: SuitePoint, fields: dict[str, object]) -> SuitePoint:
    """Return the point on a line that names the fixed fields, but for one that is its place on the axis."""
    said = place.series.split(", ")
    if any("tokens" in part or part.startswith("T=") for part in said):
        fields = {name: value for name, value in fields.items() if name != "T"}
    words = {_WORDS[name](place.problem): value for name, value in fields.items() if name in _WORDS}
    named = [word for word, value in words.items() if word not in said and place.x not in (word, value)]
    return replace(place, series=", ".join([*said, *named]))


@dataclass(frozen=True, kw_only=True)
class Suite:
    """A question and the sweep that answers it. Its name is the name of its file, whose ``suite`` is its one instance.

    ``axis`` titles the ``x`` of the points, with its unit. ``small`` fits two CPU cores, ``full`` wants a GPU and time,
    ``reduced`` a GPU and a minute or two; not every suite has a reduced form. ``beyond`` are numbers of ranks for which
    its lines are predicted when a machine is described, each rank with as many tokens as where it is measured.
    """

    question: str
    axis: str
    small: SuiteForm
    full: SuiteForm
    reduced: SuiteForm | None = None
    beyond: tuple[int, ...] = ()


SUITES: Catalog[Suite] = Catalog("suite", f"{__package__}.sweeps", "suite")
