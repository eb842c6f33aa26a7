"""Messages of a run about points that memory was too small for."""

from __future__ import annotations

from collections.abc import Callable

from moebench.reports.answers.shortage import shortage
from moebench.results.record import Record, Status

Make = Callable[..., Record]


def short(made: Record, needed: int | None) -> Record:
    return made.model_copy(update={"status": Status.out_of_memory, "timing": None, "needed_bytes": needed})


def test_points_and_results_are_counted_and_the_largest_is_named(make: Make) -> None:
    records = [
        make("loop"),
        make("padded", status=Status.unsupported),
        short(make("loop", x=1.0), 57 << 30),
        short(make("padded", x=1.0), 3 << 30),
        short(make("loop", x=2.0), None),
    ]
    found = shortage(records)
    assert found is not None
    assert (found.points, found.records, found.needed) == (2, 3, 57 << 30)
    assert "3 trials at 2 points ran out of memory" in found.sentence
    assert "the largest needed about 57.0 GiB, the device has 80.0 GiB" in found.sentence
    assert "--size" in found.sentence
    assert found.plain()["needed_bytes"] == 57 << 30


def test_a_need_without_an_estimate_is_not_made_up(make: Make) -> None:
    found = shortage([short(make("loop"), None)])
    assert found is not None
    assert "1 trial at 1 point ran out of memory: the device has 80.0 GiB" in found.sentence


def test_other_refusals_are_no_shortage(make: Make) -> None:
    assert shortage([make("loop"), make("padded", status=Status.unsupported)]) is None
