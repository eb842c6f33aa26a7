"""Utilisation, SOL score and cost of tokens follow from time, work, rates and price, and exist only where these do."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from moebench.reports.measures import columns, values
from moebench.reports.table import table
from moebench.results.record import Clocks, Record

Make = Callable[..., Record]


def test_the_larger_utilisation_is_the_share_of_the_bound(make: Make) -> None:
    (row,) = table([make("padded", ms=1.0)])
    found = values(row)
    assert max(found["s_mfu"], found["s_mbu"]) == pytest.approx(found["share_of_bound"])  # type: ignore[type-var]
    work, roofline = row.record.work, row.record.roofline
    assert work is not None
    assert roofline is not None
    assert row.median is not None
    assert found["s_mfu"] == pytest.approx(work.useful_flops / (row.median.value * 1e-3) / roofline.flops_per_s)


def test_the_sol_score_is_the_closed_share_of_the_gap(make: Make) -> None:
    rows = {row.kernel: row for row in table([make("loop", ms=[4.0] * 9), make("padded", ms=[2.0] * 9)])}
    bound = rows["padded"].bound
    assert bound is not None
    assert values(rows["padded"])["sol_score"] == pytest.approx((4 - 2) / (4 - bound))
    assert values(rows["loop"])["sol_score"] is None


def test_slower_than_the_baseline_scores_below_zero(make: Make) -> None:
    rows = {row.kernel: row for row in table([make("loop", ms=2.0), make("padded", ms=4.0)])}
    assert values(rows["padded"])["sol_score"] < 0  # type: ignore[operator]


def test_no_baseline_and_no_bound_give_no_score(make: Make) -> None:
    (alone,) = table([make("padded")])
    unknown = table([make("loop", roofline=None), make("padded", roofline=None)])
    assert [values(row)["sol_score"] for row in (alone, *unknown)] == [None] * 3
    assert values(unknown[0])["s_mfu"] is None


def test_the_cost_counts_every_rank(make: Make) -> None:
    problem = {"T": 2000, "ranks": 2}
    (row,) = table([make("padded", ms=[1.0] * 9, problem=problem)], price=3.6)
    assert values(row)["cost_per_million_tokens"] == pytest.approx(0.001 * 2 * 0.5)
    (free,) = table([make("padded", problem=problem)])
    assert values(free)["cost_per_million_tokens"] is None


def test_the_energy_of_a_token_is_that_of_a_call_over_its_tokens(make: Make) -> None:
    """In joules in files and in millijoules in tables; a reference has rows for tokens."""
    used = Clocks(energy_j=0.5)
    padded, dense, unknown = (
        table([make(name, problem={"T": 2000}, clocks=clocks)])[0]
        for name, clocks in (("padded", used), ("dense", used), ("padded", None))
    )
    assert values(padded)["joules_per_token"] == pytest.approx(0.5 / 2000)
    assert (values(dense)["joules_per_token"], values(unknown)["joules_per_token"]) == (None, None)
    (column,) = (column for column in columns() if column.heading == "energy of a token (mJ)")
    assert (column.cell(padded), column.cell(unknown)) == ("0.250", "–")
