"""The main plot shows each measure at the places of a section, with the limit of the machine."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from drawn import frame_of, marks, section_of, texts

from moebench.reports.frame import section_frame
from moebench.reports.measures import values
from moebench.reports.plots.canvas import PANELS, settings
from moebench.reports.plots.kinds.along_axis import along_axis
from moebench.reports.plots.kinds.main_plot import equal_flops, main_plots
from moebench.reports.plots.palette import styles
from moebench.reports.plots.quantity import QUANTITIES, quantified
from moebench.reports.plots.scale import shared
from moebench.results.record import Clocks, Record

Make = Callable[..., Record]
BY_MEASURE = {quantity.measure: quantity for quantity in QUANTITIES}


def _facet(frame: pd.DataFrame, measure: str) -> pd.DataFrame:
    return quantified(frame, BY_MEASURE[measure])


@pytest.mark.parametrize(
    ("measure", "factor"),
    [("median_ms", 1), ("tokens_per_s", 1), ("useful_tflop_per_s", 1), ("share_of_bound", 100), ("peak_mib", 1)],
)
def test_a_mark_is_at_the_measure_of_its_record(suites: dict[str, list[Record]], measure: str, factor: float) -> None:
    section = section_of([record for record in suites["tokens"] if record.problem["mode"] == "forward"])
    frame = section_frame(section)
    figure = along_axis(_facet(frame, measure), BY_MEASURE[measure], styles(frame["kernel"]))
    assert figure is not None
    known = {section.index(row.record): row for row in section.rows if values(row)[measure] is not None}
    found = marks(figure)
    assert set(found) == set(known)
    for record, (x, y) in found.items():
        assert x == np.log2(float(known[record].place.x))
        assert y == pytest.approx(factor * float(values(known[record])[measure]))  # type: ignore[arg-type]


def test_the_limit_of_a_rate_is_the_rate_at_the_lower_bound(suites: dict[str, list[Record]]) -> None:
    frame = frame_of(suites["models"])
    rate, share = _facet(frame, "tokens_per_s"), _facet(frame, "share_of_bound")
    assert (rate["limit"] / rate["value"]).tolist() == pytest.approx((rate["median_ms"] / rate["bound_ms"]).tolist())
    assert set(share["limit"].round(9)) == {100}
    assert ((rate["low"] <= rate["value"]) & (rate["value"] <= rate["high"])).all()
    assert _facet(frame, "peak_mib")["limit"].isna().all()


def test_joules_are_a_measure_where_they_were_counted(make: Make) -> None:
    records = [make(kernel, clocks=Clocks(energy_j=joules)) for kernel, joules in (("a", 2.0), ("b", 3.0))]
    frame = frame_of(records)
    with settings():
        drawn = main_plots(frame, styles(frame["kernel"]))
    assert drawn[-1].measure == "energy (J)"
    assert "a is thriftiest; energy of 2.00 to 3.00 J" in drawn[-1].alt


def test_a_capacity_factor_has_its_drop_rate_beneath_and_memory_beside_it(
    suites: dict[str, list[Record]],
) -> None:
    frame = frame_of(suites["capacity"])
    figure = along_axis(_facet(frame, "median_ms"), BY_MEASURE["median_ms"], styles(frame["kernel"]))
    assert figure is not None
    above, beneath = figure.axes
    assert beneath.get_xlim() == above.get_xlim()
    line = next(line for line in beneath.lines if line.get_marker() == "|")
    rates = frame.drop_duplicates("x")["drop_rate"].to_numpy(dtype=float)
    assert np.asarray(line.get_ydata(), dtype=float) == pytest.approx(100 * rates)
    assert {"dropped (%)", "dropless", "capacity factor"} <= set(texts(figure))
    with settings():
        beside = main_plots(frame, styles(frame["kernel"]))[-1]
    assert beside.name == "throughput-memory"
    assert len(beside.panels) == 2


def test_equal_useful_flops_are_said_where_they_are_equal(make: Make) -> None:
    def granular(factor: int) -> list[pd.DataFrame]:
        sizes = [{"E": 8 * G, "K": G, "F": 1024 // G * (factor if G > 1 else 1)} for G in (1, 2, 4)]
        return [frame_of([make("a", x=float(one["K"]), problem=one) for one in sizes])]

    assert equal_flops(granular(1)) == "12.9 GFLOP"
    assert equal_flops(granular(2)) == ""


def test_panels_share_a_scale_unless_one_of_them_would_be_flat() -> None:
    near, far = np.array([1.0, 4.0]), np.array([1000.0, 1001.0])
    together = shared([near, 2 * near])
    assert together is not None
    assert together.tolist() == [1, 4, 2, 8]
    assert shared([near, far]) is None


def test_more_facets_than_are_compared_by_eye_are_said_to_be_in_the_table(make: Make) -> None:
    lines = [f"line {number}" for number in range(PANELS + 2)]
    records = [make(kernel, series=line, ms=ms) for line in lines for kernel, ms in (("a", 1.0), ("b", 2.0))]
    frame = frame_of(records)
    with settings():
        time = main_plots(frame, styles(frame["kernel"]))[0]
    assert len(time.panels) == PANELS
    assert "2 more facets are in the table only." in time.caption
