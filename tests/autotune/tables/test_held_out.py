"""The regret of a look-up is what it loses to the fastest configuration measured there."""

from __future__ import annotations

import dataclasses

import pytest
from tuner_records import PROBLEM, SKEWED, A, B, C, D, batch, only, tuned_run

from moebench.autotune.tables.held_out import held_out, look_up_in
from moebench.kernels.tuned.lookup import Found, NotCovered


def test_the_regret_of_looking_up_what_was_held_out() -> None:
    """B won at 64 and the default was kept at 256, so that B is the fastest by interpolation at 80."""
    table = only(tuned_run())
    held = [
        *batch("search", 80, [(A, 120), (D, 70)]),
        *batch("held-out", 80, [(A, 120), (A, 121), (B, 110), (D, 100)]),
        *batch("held-out", 1024, [(A, 120), (A, 121), (B, 110)]),
        *batch("held-out", 80, [(A, 120), (A, 121), (D, 100)], SKEWED),
    ]
    inside, outside, unmeasured = held_out(held, [table])
    assert (inside.kernel, inside.place.T, inside.config) == ("scatter", 80, B)
    assert inside.regret == pytest.approx(0.1)
    assert inside.why == "between T = 64 and T = 256"
    assert outside.regret is None
    assert "outside the tuned T = 64 to 256" in outside.why
    assert (unmeasured.config, unmeasured.regret) == (C, None)
    assert "it has no time" in unmeasured.why
    (nothing, *_) = held_out(held, [])
    assert (nothing.config, nothing.regret) == (None, None)
    other = [dataclasses.replace(table, source="other")]
    assert all(one.regret is None for one in held_out(held, other))
    assert only([*tuned_run(), *held]).entries == table.entries, "what is held out is in no table"


def test_a_table_can_be_asked_before_it_is_written() -> None:
    tables = [only(tuned_run())]
    found = look_up_in(tables, PROBLEM.replace(T=80), [A, B, C])
    assert isinstance(found, Found)
    assert found.config == B
    fallen_back = look_up_in(tables, PROBLEM.replace(T=80), [A, C])
    assert isinstance(fallen_back, Found)
    assert fallen_back.config == C, "B is no candidate there"
    assert isinstance(look_up_in(tables, PROBLEM.replace(D=16), [A, B, C]), NotCovered)
