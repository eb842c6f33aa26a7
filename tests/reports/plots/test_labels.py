"""Labels keep names apart, and names beside marks cover nothing."""

from __future__ import annotations

from itertools import combinations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.text import Annotation

from moebench.reports.plots.canvas import panel, settings
from moebench.reports.plots.labels import MARK, fitted, told_apart, write_beside

PARTS = st.lists(st.sampled_from(["a", "b", "c d", "T=1"]), min_size=1, max_size=3).map(", ".join)
PLACES = st.lists(st.tuples(st.floats(0, 10), st.floats(0, 10)), min_size=1, max_size=8)


@given(st.lists(PARTS, min_size=1, max_size=4))
def test_names_that_differ_still_do_and_none_is_empty(names: list[str]) -> None:
    _, own = told_apart(names)
    assert all(own)
    assert len(set(own)) == len(set(names))
    assert told_apart(own)[1] == own or len(set(own)) > 1


def test_what_all_names_share_is_taken_out_of_each() -> None:
    names = ["D=256, E=8 G, K=G · hot", "D=256, E=16 G, K=G · hot"]
    assert told_apart(names) == ("D=256, K=G, hot", ["E=8 G", "E=16 G"])
    assert told_apart(["a, b", "a"]) == ("", ["a, b", "a"]), "nothing would be left of the second"
    assert told_apart(["alone, of all"]) == ("", ["alone, of all"])


@given(st.text("ab", max_size=40), st.text("ab", max_size=40), st.integers(12, 30))
def test_names_that_are_cut_still_differ(one: str, other: str, letters: int) -> None:
    found = fitted([one, other], letters)
    assert all(len(name) <= letters for name in found)
    assert (found[0] == found[1]) == (one == other)


def test_a_name_that_is_cut_shows_where_it_differs() -> None:
    names = [f"T={T}, router=limited(groups={groups},scale=2.5)" for T in (1, 64) for groups in (8, 16)]
    assert fitted(["short", *names], 24) == [
        "short",
        "T=1, router…roups=8,sca…",
        "T=1, router…roups=16,sc…",
        "T=64, route…roups=8,sca…",
        "T=64, route…roups=16,sc…",
    ]


@given(PLACES)
def test_a_name_covers_no_mark_and_no_other_name_and_stays_within_the_axes(places: list[tuple[float, float]]) -> None:
    with settings():
        figure, axes = panel("names")
        axes.set(xlim=(0, 10), ylim=(0, 10))
        x, y = np.array(places).T
        write_beside(axes, x, y, {index: f"kernel {index}" for index in range(len(places))})
        figure.canvas.draw()
        boxes = [text.get_window_extent() for text in axes.texts if isinstance(text, Annotation)]
    marks = axes.transData.transform(np.array(places))
    edge = MARK * figure.dpi / 72
    slack = 2.0  # pixels: letters are measured by their average
    for box in boxes:
        assert box.x0 > axes.bbox.x0 - slack
        assert box.x1 < axes.bbox.x1 + slack
        for across, up in marks.tolist():
            apart = max(box.x0 - across, across - box.x1, box.y0 - up, up - box.y1)
            assert apart > edge - slack
    for one, other in combinations(boxes, 2):
        assert max(one.x0 - other.x1, other.x0 - one.x1, one.y0 - other.y1, other.y0 - one.y1) > -slack


def test_names_of_marks_at_one_place_are_left_out_once_there_is_no_room() -> None:
    with settings():
        _, axes = panel("names")
        axes.set(xlim=(0, 10), ylim=(0, 10))
        same = np.full(9, 5.0)
        write_beside(axes, same, same, dict.fromkeys(range(9), "a kernel"))
    assert 1 <= len(axes.texts) < 9


def test_a_name_avoids_a_line_where_it_can() -> None:
    with settings():
        _, axes = panel("names")
        axes.set(xlim=(0, 10), ylim=(0, 10))
        five, low = np.array([5.0]), (np.array([3.0, 3.0]), np.array([0.0, 10.0]))
        write_beside(axes, five, five, {0: "a rather long name"}, [low])
        write_beside(axes, five, five, {0: "a rather long name"})
    first, second = axes.texts
    assert (first.get_horizontalalignment(), second.get_horizontalalignment()) == ("left", "right")
