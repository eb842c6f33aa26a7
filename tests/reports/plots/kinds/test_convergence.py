"""Convergence follows the best of a search, over the default beside it, towards the best that is known."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from drawn import frame_of, marks, section_of

from moebench.reports.plots.canvas import settings
from moebench.reports.plots.drawings import drawings
from moebench.reports.plots.kinds.convergence import convergence, convergence_drawings, courses
from moebench.reports.plots.palette import styles
from moebench.results.record import Record, Status

Make = Callable[..., Record]


def _trial(
    make: Make, batch: int, tile: int, ms: float, *, stage: str = "search", second: int = 0, T: int = 64
) -> Record:
    found = make(
        "scatter",
        suite="tune",
        x=float(T),
        ms=[ms] * 3,
        config={"tile": tile},
        problem={"T": T},
        time=f"2026-03-01T10:{batch:02}:{second:02}Z",
        status=Status.passed if ms else Status.uncompilable,
    )
    return found.model_copy(update={"point": found.point.model_copy(update={"stage": stage, "batch": batch})})


def _search(make: Make) -> list[Record]:
    """Two batches, the second on a machine that has become half as fast, and a final that finds the best."""
    trials = [(1, 0, 10.0), (1, 1, 8.0), (1, 2, 0.0), (2, 0, 20.0), (2, 3, 14.0), (2, 4, 18.0)]
    found = [_trial(make, batch, tile, ms, second=second) for second, (batch, tile, ms) in enumerate(trials)]
    final = [(0, 10.0), (3, 6.0)]
    return [*found, *(_trial(make, 3, tile, ms, stage="final", second=tile) for tile, ms in final)]


def test_a_course_is_of_ratios_to_the_default_of_the_batch(make: Make) -> None:
    (course,) = courses(frame_of(_search(make)))
    assert course.best == pytest.approx(0.6), "of the final"
    assert course.trial.tolist() == [1, 2, 3, 3, 4, 5], "the default counts once, a failure counts"
    assert course.regret == pytest.approx([100 * (ratio / 0.6 - 1) for ratio in (1, 0.8, 0.8, 0.8, 0.7, 0.7)])
    assert course.second.tolist() == [2, 4, 6, 8, 10, 12]
    assert course.record == [0, 1, 1, 1, 4, 4]


def test_the_marks_are_the_trials_that_found_a_better_one(make: Make) -> None:
    figure = convergence(courses(frame_of(_search(make))), styles(["scatter"]), against="trial", title="a layer")
    (course,) = courses(frame_of(_search(make)))
    found = marks(figure)
    assert {record: at[0] for record, at in found.items()} == {0: 1, 1: 2, 4: 4}
    levels = np.log1p(course.regret)
    assert [found[record][1] for record in (0, 1, 4)] == levels[[0, 1, 4]].tolist()
    (step,) = (line for line in figure.axes[0].lines if line.get_drawstyle() == "steps-post")
    assert np.asarray(step.get_xdata()).tolist() == course.trial.tolist()
    assert np.asarray(step.get_ydata()).tolist() == levels.tolist()


def test_a_regret_of_any_size_is_within_the_axes_and_layers_share_them(make: Make) -> None:
    (course,) = courses(frame_of(_search(make)))
    worse = replace(course, regret=1e4 * course.regret, trial=10 * course.trial)
    figures = [
        convergence([one], styles(["scatter"]), against="trial", title="a layer", beside=[course, worse])
        for one in (course, worse)
    ]
    (ends,) = {(*figure.axes[0].get_xlim(), *figure.axes[0].get_ylim()) for figure in figures}
    assert ends[0] <= 1
    assert ends[1] >= 50
    assert ends[3] > np.log1p(worse.regret.max())


def test_a_search_has_its_convergence_and_no_panel_for_each_batch(make: Make) -> None:
    records = [*_search(make), *(_trial(make, 1, tile, ms, T=128) for tile, ms in ((0, 3.0), (1, 4.0)))]
    section = section_of(records)
    (drawing,) = drawings(section, styles(section.kernels))
    assert drawing.name == "convergence"
    assert len(drawing.panels) == 2, "trials and seconds of the one layer, whatever the tokens"
    assert (
        "T = 64: after 5 trials and 12.0 s 16.7 % from the best known, which takes 0.600 times the default"
        in drawing.alt
    )
    assert "T = 128: after 2 trials" in drawing.alt


def test_without_a_search_there_is_none(make: Make) -> None:
    for records in ([make("a"), make("b")], [_trial(make, 1, 0, 3.0)]):
        frame = frame_of(records)
        with settings():
            assert convergence_drawings(frame, styles(frame["kernel"])) == []
    assert courses(frame) == [], "a search of one trial"
