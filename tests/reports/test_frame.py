"""The frame of a section holds every trial with its place, its record and what plots show of it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from moebench.reports.frame import section_frame
from moebench.reports.plots.kinds.main_plot import main_plots
from moebench.reports.report import Report
from moebench.results.record import Record, Status


def test_a_row_of_the_frame_is_a_row_of_the_section_and_leads_to_its_record(sweep: list[Record]) -> None:
    report = Report(sweep)
    for section in report.sections:
        frame = section_frame(section)
        assert len(frame) == len(section.rows)
        for row, (_, line) in zip(section.rows, frame.iterrows(), strict=True):
            assert report.records[line["record"]] is row.record
            assert line["kernel"] == row.kernel
            assert line["facet"] == row.place.facet.title
            assert line["leads"] == row.leads
            if row.median:
                assert line["median_ms"] == row.median.value
                assert line["bound_ms"] == pytest.approx(row.bound)


def test_at_most_one_configuration_of_a_kernel_is_the_best_at_a_place(sweep: list[Record]) -> None:
    for section in Report(sweep).sections:
        frame = section_frame(section)
        assert (frame[frame["best"]].groupby(["place", "kernel"]).size() == 1).all()
        assert frame.loc[frame["leads"], "best"].all()


def test_a_problem_cannot_replace_a_column_of_ours(sweep: list[Record]) -> None:
    record = sweep[0].model_copy(
        update={"problem": sweep[0].problem | {"record": "evil", "facet": 3, "median_ms": "x"}}
    )
    frame = section_frame(Report([record]).sections[0])
    assert frame["record"].tolist() == [0]
    assert frame["facet"].tolist() == [Report([record]).sections[0].rows[0].place.facet.title]
    assert record.timing is not None
    assert frame["median_ms"].tolist() == [Report([record]).sections[0].rows[0].median.value]  # type: ignore[union-attr]


def test_what_a_failed_trial_used_is_not_drawn(make: Callable[..., Record]) -> None:
    """A trial may fail after its first call, and then has a memory and no time."""
    passed = [make(kernel) for kernel in ("loop", "grouped")]
    wrong = make("scatter", status=Status.wrong)
    report = Report([*passed, wrong.model_copy(update={"memory": passed[0].memory})])
    frame = section_frame(report.sections[0])
    assert frame.set_index("kernel")["peak_mib"].notna().to_dict() == {"loop": True, "grouped": True, "scatter": False}
    drawings = main_plots(frame, report.styles)
    assert {kernel for drawing in drawings for kernel in drawing.kernels} == {"loop", "grouped"}
