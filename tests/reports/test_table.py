"""Rows derive the right quantities and rank kernels only against equals."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from moebench.reports.columns import place_columns, worth
from moebench.reports.measures import columns
from moebench.reports.numbers import exact
from moebench.reports.row import Rank, leading, places
from moebench.reports.table import table
from moebench.results.record import Record, Status
from moebench.results.references import REFERENCES

Make = Callable[..., Record]


def test_derived_quantities_have_the_units_of_their_columns(make: Make) -> None:
    (row,) = table([make(ms=[2.0, 2.0, 2.0], kept=0.5)])
    work = row.record.work
    assert work is not None
    assert row.median is not None
    assert row.median.value == pytest.approx(2.0)
    assert row.tflops == pytest.approx(work.useful_flops / 2e-3 / 1e12)
    bound_s = max(work.useful_flops / 700e12, work.ideal_bytes / 2.6e12)
    assert row.bound == pytest.approx(bound_s * 1e3)
    assert row.share == pytest.approx(bound_s / 2e-3)
    assert row.drop_rate == pytest.approx(0.5)


def test_a_row_without_samples_has_no_measured_quantity(make: Make) -> None:
    (row,) = table([make(status=Status.timeout, reason="ran over 60 s", sent_bytes=[1])])
    assert (row.median, row.spread, row.share, row.tflops, row.drop_rate) == (None,) * 5
    assert (row.outcome, row.reason) == ("timeout", "ran over 60 s")


def test_the_lowest_median_whose_interval_is_apart_is_fastest(make: Make) -> None:
    rows = table([make("slow", ms=2.0), make("quick", ms=1.0)])
    assert [(row.kernel, row.rank) for row in rows] == [("quick", Rank.fastest), ("slow", Rank.slower)]


def test_overlapping_intervals_are_tied(make: Make) -> None:
    noisy = [0.9, 1.0, 1.1, 1.2, 1.3]
    rows = table([make("a", ms=noisy), make("b", ms=[1.01 * one for one in noisy]), make("c", ms=9.0)])
    assert [row.rank for row in rows] == [Rank.tied, Rank.tied, Rank.slower]


def test_an_interval_that_only_reaches_into_the_fastest_one_is_tied(make: Make) -> None:
    rows = table([make("a", ms=[0.9, 1.0, 1.1, 1.2, 1.3]), make("b", ms=[1.15] * 5), make("c", ms=[1.35] * 5)])
    assert [row.rank for row in rows] == [Rank.tied, Rank.tied, Rank.slower]


def test_one_that_passed_among_failures_is_no_winner(make: Make) -> None:
    rows = table([make("a"), make("b", status=Status.wrong, reason="norm 0.3")])
    assert [row.rank for row in rows] == [Rank.alone, Rank.slower]


def test_the_reference_never_competes(make: Make) -> None:
    rows = table([make("dense", ms=0.1), make("a", ms=1.0), make("b", ms=2.0)])
    assert [(row.kernel, row.rank) for row in rows] == [
        ("dense", Rank.reference),
        ("a", Rank.fastest),
        ("b", Rank.slower),
    ]


def test_rows_are_held_against_the_references_at_their_place(make: Make) -> None:
    """By useful FLOP/s: `make` gives a reference an expert's row for each of the eight routes of a token."""
    one_expert = {"T": 8192, "E": 1, "K": 1}
    records = [
        make("matmul", ms=1.0, noise=0, problem=one_expert),
        make("dense", ms=2.0, noise=0, problem=one_expert),
        make("a", ms=4.0, noise=0),
        make("a", ms=3.0, noise=0, x=2048.0),
    ]
    rows = table(records)
    shares = {(row.kernel, row.place.x): [row.rate_over(name) for name in REFERENCES] for row in rows}
    assert shares["a", 1024.0] == pytest.approx([0.25, 0.5])
    assert shares["dense", 1024.0] == pytest.approx([0.5, 1.0])
    assert shares["a", 2048.0] == [None, None]
    headings = [column.heading for column in worth(columns(), rows)]
    assert {"of matmul (%)", "of dense (%)"} <= set(headings)
    assert "of matmul (%)" not in [column.heading for column in worth(columns(), table(records[2:]))]


def test_configurations_of_one_kernel_do_not_compete_with_each_other(make: Make) -> None:
    rows = table([make("a", ms=1.0, config={"block": 64}), make("a", ms=1.5, config={"block": 32}), make("b", ms=3.0)])
    assert [row.rank for row in rows] == [Rank.fastest, Rank.slower, Rank.slower]
    assert leading(rows)["a"].config == "block=64"


def test_dtype_and_mode_are_never_compared(make: Make) -> None:
    records = [
        make("a", ms=1.0, problem={"dtype": "float16"}),
        make("b", ms=2.0, problem={"dtype": "float32"}),
        make("c", ms=3.0, problem={"dtype": "float32", "mode": "train"}),
    ]
    assert [row.rank for row in table(records)] == [Rank.alone] * 3


def test_problems_that_differ_at_one_place_are_told_apart(make: Make) -> None:
    records = [make(kernel, ms=1.0 + seed, problem={"seed": seed}) for seed in (0, 1) for kernel in ("a", "b")]
    rows = table(records)
    assert len(places(rows)) == 2
    assert {row.place.facet.detail for row in rows} == {"seed 0", "seed 1"}


def test_hot_and_cold_times_are_never_compared(make: Make) -> None:
    rows = table([make("a", ms=1.0, cache="hot"), make("b", ms=2.0)])
    assert [row.rank for row in rows] == [Rank.alone] * 2


def test_places_follow_the_axis_numbers_first_whatever_the_order_of_records(suites: dict[str, list[Record]]) -> None:
    records = suites["capacity"]
    expected = [1.0, 1.25, 1.5, 2.0, 3.0, 4.0, "dropless"]
    assert [place.x for place in places(table(records))] == expected
    assert [place.x for place in places(table(records[::-1]))] == expected


def test_words_on_an_axis_keep_the_order_of_the_suite(suites: dict[str, list[Record]]) -> None:
    named = [place.x for place in places(table(suites["models"]))]
    assert named == ["mixtral-8x7b", "qwen3-30b-a3b", "deepseek-v3", "olmoe-1b-7b", "gpt-oss-120b"]


def test_a_row_names_its_place(make: Make) -> None:
    records = [make(problem={"seed": 1, "mode": "train"}), make(problem={"seed": 2, "mode": "train"}, ms=2.0)]
    cells = [column.cell(table(records)[0]) for column in place_columns("tokens")]
    assert cells == ["small", exact(1024.0), "bfloat16", "train", "T=1024, D=2048, F=1024, E=64, K=8", "seed 1"]


def test_of_a_configuration_is_shown_what_differs_between_records_of_the_kernel(make: Make) -> None:
    rows = table(
        [
            *(make("a", config={"block": side, "warps": 4}) for side in (32, 64)),
            make("b", config={"block": 16, "warps": 8}),
        ]
    )
    assert [(row.kernel, row.choice) for row in sorted(rows, key=lambda row: (row.kernel, row.config))] == [
        ("a", "block=32"),
        ("a", "block=64"),
        ("b", ""),
    ]
    assert {row.config for row in rows if row.kernel == "b"} == {"block=16 warps=8"}


def test_a_part_stands_beside_the_layers_whose_elements_are_narrower(make: Make) -> None:
    layer = make("scatter", ms=10.0, problem={"dtype": "bfloat16"})
    part = make("router_alone", ms=1.0, problem={"dtype": "float32"})
    rows = table([layer, part])
    assert {row.place for row in rows} == {rows[0].place}
    assert next(row for row in rows if row.kernel == "router_alone").share_of_layer == pytest.approx(0.1, rel=0.01)
    wider = make("scatter", ms=20.0, problem={"dtype": "float32"})
    beside = {row.kernel: row.place.facet.dtype for row in table([layer, wider, part]) if row.reference}
    assert beside == {"router_alone": "float32"}, "layers of two dtypes: that of its own"
