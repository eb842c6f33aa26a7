"""Records that lack something are counted and named, and complete ones are not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from moebench.reports.answers.gaps import gaps
from moebench.reports.report import Report
from moebench.results.record import Error, Record, Status

Make = Callable[..., Record]


@pytest.fixture
def complete(make: Make) -> Record:
    return make().model_copy(update={"errors": {"y": Error(norm=1e-7, worst_row=1e-7)}})


def test_a_complete_record_has_none(complete: Record) -> None:
    assert gaps([complete], {"loop"}) == []


@pytest.mark.parametrize(
    ("update", "words"),
    [
        ({"roofline": None}, "no measured rates of the machine, so no lower bound and no share of it"),
        ({"work": None}, "no FLOPs and bytes, so no rates and no lower bound"),
        ({"memory": None}, "no memory"),
        ({"errors": {}}, "no distance from the reference"),
        ({"sent_before_traffic": [5, 5]}, "only a sum of the bytes they sent"),
        ({"problem": {"dtype": "float32", "mode": "train"}}, "not all sizes of the layer (T, D, F, E, K)"),
    ],
)
def test_what_is_missing_is_counted_and_named(complete: Record, update: dict[str, object], words: str) -> None:
    lacking = complete.model_copy(update=update)
    assert gaps([complete, lacking]) == [f"1 record in tokens has {words}."]
    assert gaps([lacking, lacking]) == [f"2 records in tokens have {words}."]


def test_a_failure_lacks_nothing_that_it_should_have(make: Make) -> None:
    assert gaps([make(status=Status.crashed, roofline=None)]) == []


def test_kernels_that_are_not_known_are_named(complete: Record) -> None:
    other = complete.model_copy(update={"kernel": "of tomorrow\n"})
    assert gaps([complete, other], {"loop"}) == [
        "1 record is of a kernel that this moebench does not have: of tomorrow."
    ]
    several = [complete.model_copy(update={"kernel": f"k{n}"}) for n in range(7)]
    assert gaps(several, {"loop"}) == [
        "7 records are of kernels that this moebench does not have: k0, k1, k2, k3, k4 and 2 more."
    ]


def test_pages_begin_with_them_and_show_the_record(complete: Record, tmp_path: Path) -> None:
    bare = complete.model_copy(update={"roofline": None, "work": None, "memory": None, "errors": {}, "problem": {}})
    report = Report([bare], known_kernels=())
    for suffix in (".html", ".md"):
        text = report.write(tmp_path / f"r{suffix}").read_text(encoding="utf-8")
        assert "Shown with what they have" in text
        assert "that this moebench does not have" in text
        assert "1.00" in text, "its median is there"
