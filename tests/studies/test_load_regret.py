"""The regret of entries under other loads is read from records, where the load is the one that a layer observes."""

from __future__ import annotations

import load_regret
import pytest
from load_regret import RECORDED, load_regrets, observed_load
from tuner_records import SKEWED, A, B, C, batch, tuned_run

from moebench.kernels.problem import Problem
from moebench.results.record.store import load_all


def test_an_entry_for_the_observed_load_saves_what_the_uniform_one_loses_there() -> None:
    """At 64 tokens the uniform entry has B, which takes 150 under the skewed load, where C takes 115 and wins."""
    tuned = [
        *tuned_run(),
        *batch("final", 64, [(A, 120), (A, 120), (B, 150), (C, 110)], SKEWED),
        *batch("final", 256, [(A, 500), (A, 500), (B, 700)], SKEWED),
    ]
    small, large = load_regrets(tuned)
    assert (small.place.T, small.place.load, small.taken) == (64, SKEWED, SKEWED)
    assert small.default == pytest.approx(120 / 115 - 1)
    assert small.uniform == pytest.approx(150 / 115 - 1)
    assert small.observed == 0
    assert (large.place.T, large.uniform, large.observed) == (256, 0, 0), "the default was kept for both"


def test_without_an_entry_of_its_own_the_robust_one_answers() -> None:
    small = load_regrets(tuned_run())[0]
    assert small.uniform == pytest.approx(150 / 115 - 1)
    assert small.observed == 0


def test_what_was_measured_under_one_load_says_nothing() -> None:
    assert load_regrets(batch("final", 64, [(A, 100), (A, 100), (B, 80)])) == []
    with pytest.raises(SystemExit, match=r"cpu-sweeps-others\.jsonl: nothing was tuned for one load"):
        load_regret.main([str(RECORDED.with_name("cpu-sweeps-others.jsonl"))])


@pytest.mark.parametrize(
    ("load", "seen"), [("zipf:1.2", {"zipf:1", "zipf:1.5"}), ("hot", {"hot"}), ("uniform", {"uniform"})]
)
@pytest.mark.parametrize("T", [1, 1000])
def test_a_layer_sees_the_load_of_its_calls_whatever_their_size(load: str, seen: set[str], T: int) -> None:
    assert observed_load(Problem(T=T, D=1, F=1, E=64, K=8, load=load)) in seen


def test_on_the_recorded_run_the_uniform_entry_loses_too_little_to_save_any() -> None:
    found = load_regrets(load_all([RECORDED]).records)
    assert {one.place.load for one in found} == {"zipf:1.2", "hot"}
    assert len(found) == 8
    assert all(0 <= one.uniform < 0.01 and 0 <= one.observed < 0.01 for one in found)
    printed = "\n".join(load_regret.report(found))
    assert printed.count("| scatter |") == 8
    assert "worst regret: 0.8 % with the uniform entry" in printed
