"""Drawings of a section in the order of a page: the main plot in each of its measures, then every other kind."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from ..section import Section
from .drawing import Drawing
from .palette import Style

try:
    import pandas as pd

    from ..frame import section_frame
    from .canvas import settings
    from .kinds.main_plot import main_plots
    from .kinds.pareto_front import pareto_drawings
    from .kinds.roofline_plot import roofline_drawings
    from .kinds.stage_bars import stage_drawings
    from .kinds.winner_map import map_drawings
except ImportError as error:
    MISSING = f"there are no plots, matplotlib cannot be imported ({error}): pip install matplotlib pandas"
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


def drawings(section: Section, styles: Mapping[str, Style]) -> list[Drawing]:
    """Return the drawings of a section, none without matplotlib; a kind that has nothing to show is left out.

    ``styles`` has a style for every kernel of the section.
    """
    if MISSING or not any(row.median for row in section.rows):
        return []
    frame = section_frame(section)
    with settings():
        return [drawing for kind in KINDS for drawing in kind(frame, styles)]
