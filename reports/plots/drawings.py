"""Drawings of a section in the order of a page: the main plot in each of its measures, then every other kind."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from ...common.errors import in_one_line
from ...results.record import Record
from ...results.record.identity import Identity
from ...results.regression.history import Series, dated, history
from ..section import Section
from .drawing import Drawing
from .palette import Style

try:
    import pandas as pd

    from ..frame import history_frame, prediction_frame, section_frame
    from .canvas import PANELS, settings
    from .kinds.convergence import convergence_drawings
    from .kinds.history_plot import FEWEST, history_drawings
    from .kinds.main_plot import main_plots
    from .kinds.pareto_front import pareto_drawings
    from .kinds.roofline_plot import roofline_drawings
    from .kinds.scaling_plot import scaling_drawings
    from .kinds.stage_bars import stage_drawings
    from .kinds.winner_map import map_drawings
except Exception as error:  # noqa: BLE001  # a package that was built for another numpy may raise anything
    MISSING = f"there are no plots, matplotlib cannot be imported ({in_one_line(error)}): pip install matplotlib pandas"
else:
    MISSING = ""
    Kind = Callable[[pd.DataFrame, Mapping[str, Style]], list[Drawing]]
    KINDS: Final[tuple[Kind, ...]] = (
        main_plots,
        map_drawings,
        stage_drawings,
        roofline_drawings,
        pareto_drawings,
    )
    TUNING: Final[tuple[Kind, ...]] = (convergence_drawings,)
    """Of the trials of a search, whose batches are no places that anybody compares."""


@dataclass(frozen=True)
class SectionFrames:
    """Everything that the drawings of a section show: its trials, its predictions and its histories."""

    trials: pd.DataFrame
    predictions: pd.DataFrame
    histories: pd.DataFrame


def drawings(section: Section, styles: Mapping[str, Style]) -> list[Drawing]:
    """Return the drawings of a section, none without matplotlib; a kind that has nothing to show is left out.

    ``styles`` has a style for every kernel of the section.
    """
    frames = section_frames(section)
    return drawings_of(frames, styles) if frames else []


def section_frames(section: Section) -> SectionFrames | None:
    """Return what the drawings of a section show, None without matplotlib or where no trial has a time."""
    if MISSING or not any(row.median for row in section.rows):
        return None
    return SectionFrames(section_frame(section), prediction_frame(section), history_frame(_histories(section)))


def drawings_of(frames: SectionFrames, styles: Mapping[str, Style]) -> list[Drawing]:
    """Return the drawings of the frames of a section."""
    trials = frames.trials
    searched = trials["stage"].notna().all()
    with settings():
        found = [drawing for kind in (TUNING if searched else KINDS) for drawing in kind(trials, styles)]
        scaling = [] if searched else scaling_drawings(trials, frames.predictions, styles)
        return [*found, *scaling, *history_drawings(frames.histories, styles)]


def _histories(section: Section) -> list[Series]:
    """Return the histories of the kernels of a section that were measured at three commits or more.

    They are those of the points with the most commits: finding changes takes a tenth of a second for a long history.
    """
    commits: dict[Identity, set[str]] = {}
    kept = dated([*section.earlier, *section.records])
    if len({record.commit for record in kept}) < FEWEST:
        return []
    for record in kept:
        commits.setdefault(_kernel(record), set()).add(record.commit)
    longest = sorted((one for one in commits if len(commits[one]) >= FEWEST), key=lambda one: -len(commits[one]))
    points = list(dict.fromkeys(one.without("kernel") for one in longest))[:PANELS]
    shown = {one for one in longest if one.without("kernel") in points}
    return history([record for record in kept if _kernel(record) in shown])


def _kernel(record: Record) -> Identity:
    return record.identity.without("config", "source")
