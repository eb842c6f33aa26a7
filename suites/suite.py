"""The parts of a suite: a question, and the points at which it is asked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..common.plugins import Catalog
from ..kernels.problem import Problem
from .competitors import CompetitorRule

if TYPE_CHECKING:
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
class SuiteForm:
    """The points of a suite and who competes there; ``baseline`` is the kernel that others are compared with.

    The forms for a GPU are also measured with hot caches, so their baseline must not wait for the host: a CUDA graph
    could not hold its call.
    """

    baseline: str
    competitors: CompetitorRule
    places: tuple[SuitePoint, ...]


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
