"""A winner leads at most places, its margin is over the best other kernel, and ties are not called wins."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from moebench.reports.answers.winner import contested, winner
from moebench.reports.row import Row
from moebench.reports.table import table
from moebench.results.record import Record, Status

Make = Callable[..., Record]


Rows = Callable[[Mapping[str, Mapping[float, float]]], list[Row]]


@pytest.fixture
def rows(make: Make) -> Rows:
    """Rows from times in ms by kernel and place."""

    def made(times: Mapping[str, Mapping[float, float]]) -> list[Row]:
        return table([make(kernel, x=x, ms=ms) for kernel, along in times.items() for x, ms in along.items()])

    return made


def test_the_margin_is_the_mean_over_the_best_other_of_each_place(rows: Rows) -> None:
    found = winner(rows({"padded": {1: 1.0, 2: 1.0}, "loop": {1: 4.0, 2: 2.0}, "scatter": {1: 2.0, 2: 8.0}}))
    assert found is not None
    assert (found.kernel, found.led, found.contests) == ("padded", 2, 2)
    assert found.margin.value == pytest.approx(2, rel=0.01)  # √(2 · 2)
    assert found.sure
    assert found.standing == "faster"


def test_a_winner_that_others_beat_together_is_mixed(rows: Rows) -> None:
    found = winner(rows({"padded": {1: 1.0, 2: 1.0, 3: 9.0}, "loop": {1: 1.1, 2: 5.0, 3: 1.0}}))
    assert found is not None
    assert (found.kernel, found.led, found.standing) == ("padded", 2, "mixed")


def test_equal_kernels_are_tied(make: Make) -> None:
    same = [make(kernel, ms=[1.0, 1.2, 0.9, 1.1, 1.05, 0.95] * 3) for kernel in ("padded", "loop")]
    found = winner(table(same))
    assert found is not None
    assert found.standing == "tied"


def test_no_place_with_two_kernels_is_no_contest(make: Make) -> None:
    alone = [make("padded", x=1.0), make("loop", x=2.0), make("matmul", x=1.0)]
    failed = [make("scatter", x=2.0, status=Status.wrong)]
    assert winner(table([*alone, *failed])) is None
    assert winner([]) is None


def test_places_of_two_suites_do_not_mix(make: Make) -> None:
    one = table([make("padded", suite="a", ms=1.0), make("loop", suite="a", ms=2.0)])
    other = table([make("padded", suite="b", ms=3.0), make("scatter", suite="b", ms=1.0)])
    assert [sorted(best) for best in contested([*one, *other])] == [["loop", "padded"], ["padded", "scatter"]]


TIMES = st.dictionaries(
    st.sampled_from(["padded", "loop", "scatter", "grouped"]),
    st.dictionaries(st.sampled_from([1.0, 2.0, 4.0]), st.floats(0.1, 100), min_size=1),
    min_size=2,
)


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(times=TIMES)
def test_the_winner_leads_at_least_as_often_as_any_other(rows: Rows, times: dict[str, dict[float, float]]) -> None:
    found_rows = rows(times)
    found = winner(found_rows)
    contests = contested(found_rows)
    assert (found is None) == (not contests)
    if found:
        led = {kernel: sum(best[kernel].leads for best in contests if kernel in best) for kernel in times}
        assert found.led == max(led.values()) == led[found.kernel]
        assert found.contests == len(contests)
        assert found.margin.low <= found.margin.value <= found.margin.high
