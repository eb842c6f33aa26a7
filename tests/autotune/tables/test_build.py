"""Tables have what their records say: the winner, its speed-up and its cost elsewhere; and nothing else."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from records import ENVIRONMENT, record
from tuner_records import SKEWED, A, B, C, D, batch, only, tuned_run

from moebench.autotune.tables.build import derive, winners
from moebench.autotune.tables.table_files import file_name
from moebench.kernels.tuned.tuned_table import Bucket, TableEntry, TunedTable
from moebench.results.record import Timing


def of(table: TunedTable, *loads: str) -> TableEntry:
    (entry,) = (entry for entry in table.entries if entry.loads == loads)
    return entry


def chosen(entry: TableEntry, bucket: Bucket) -> Any:
    return entry.configs[bucket.chosen]


def test_a_verdict_becomes_a_bucket() -> None:
    entry = of(only(tuned_run()), "uniform")
    few, many = entry.buckets
    assert entry.configs == (A, B, C)
    assert (few.T, chosen(entry, few), few.verdict, few.trials) == (64, B, "tuned", 11)
    assert few.speedup == pytest.approx(1.25)
    assert few.interval[0] < 1.25 < few.interval[1]
    assert (many.T, chosen(entry, many), many.verdict) == (256, A, "tie")
    assert many.speedup == pytest.approx(400 / 398, rel=1e-5)
    assert few.noise == many.noise == 0.01
    assert few.regret == {SKEWED: pytest.approx(150 / 115 - 1, rel=1e-5)}


def test_times_are_those_of_the_interleaved_comparison() -> None:
    """Times of another batch are scaled by the default, which is in both."""
    few, _ = of(only(tuned_run()), "uniform").buckets
    default = math.sqrt(100 * 101)
    expected = [default, default * 81 / 101, default * 90 / 101]
    assert few.median_ns == pytest.approx(expected, rel=1e-5)


def test_the_robust_choice_has_the_least_worst_regret() -> None:
    """At 64 tokens C is within an eighth of the best under both loads and wins; at 256 the default is the best."""
    entry = of(only(tuned_run()), "uniform", SKEWED)
    assert entry.robust
    few, many = entry.buckets
    assert (chosen(entry, few), few.verdict) == (C, "tuned")
    assert few.regret == {"uniform": pytest.approx(90 / 81 - 1, rel=1e-4), SKEWED: 0.0}
    assert few.speedup == pytest.approx(101 / 90, rel=1e-4), "where the default is worst, under the uniform load"
    assert (chosen(entry, many), many.verdict) == (A, "tie")
    fastest = min(range(3), key=lambda number: few.median_ns[number] or math.inf)
    assert fastest == few.chosen


@given(times=st.lists(st.tuples(*[st.floats(1, 1e3)] * 4), min_size=2, max_size=4))
def test_no_candidate_has_less_worst_regret_than_a_robust_winner(times: list[tuple[float, ...]]) -> None:
    loads = ["uniform", "hot", SKEWED, "empty:0.5"][: len(times)]
    configs = [A, B, C, D]
    records = [
        one
        for load, found in zip(loads, times, strict=True)
        for one in batch("cross", 64, [(A, found[0]), *zip(configs, found, strict=True)], load)
    ]
    (bucket,) = only(records).entries[0].buckets
    worst = [max(found[n] / min(found) - 1 for found in times) for n in range(4)]
    regret = max(bucket.regret.values())
    assert regret == pytest.approx(worst[bucket.chosen], rel=1e-3, abs=1e-5)
    assert bucket.verdict == "tie" or regret <= min(worst) * 1.001 + 1e-5
    assert bucket.verdict == "tuned" or bucket.chosen == bucket.default == 0


def test_without_another_load_there_is_no_robust_entry() -> None:
    table = only([one for one in tuned_run() if one.problem["load"] == "uniform"])
    assert [entry.loads for entry in table.entries] == [("uniform",)]
    assert table.entries[0].buckets[0].regret == {}


def test_what_was_only_searched_is_not_stored() -> None:
    assert derive(batch("search", 64, [(A, 100), (B, 50)])).tables == ()


def test_a_default_that_fails_leaves_no_bucket_and_is_said() -> None:
    derived = derive(batch("final", 64, [(A, math.nan), (A, math.nan), (B, 80)]))
    assert derived.tables == ()
    assert derived.left_out == ("scatter: T = 64, load uniform: the default failed, and nothing is compared with it",)


def test_when_every_candidate_fails_the_default_is_kept() -> None:
    (bucket,) = only(batch("final", 64, [(B, math.nan), (A, 100), (A, 100)])).entries[0].buckets
    assert (bucket.verdict, bucket.chosen, bucket.speedup) == ("tie", bucket.default, 1.0)


def test_the_default_may_be_another_for_other_tokens() -> None:
    """The default is the configuration measured twice, at any place in the batch."""
    records = [*batch("final", 64, [(A, 10), (A, 10), (B, 12)]), *batch("final", 256, [(A, 40), (B, 30), (B, 30)])]
    entry = of(only(records), "uniform")
    assert [entry.configs[bucket.default] for bucket in entry.buckets] == [A, B]
    assert [bucket.verdict for bucket in entry.buckets] == ["tie", "tie"]


def test_a_later_verdict_counts() -> None:
    again = batch("final", 64, [(A, 100), (A, 100), (C, 50)], number=2)
    entry = of(only([*tuned_run(), *again]), "uniform")
    assert chosen(entry, entry.buckets[0]) == C


@pytest.mark.parametrize(
    "changes",
    [
        {"source": "def"},
        {"kernel": "padded"},
        {"environment": ENVIRONMENT.model_copy(update={"torch": "9.9"})},
        {"environment": ENVIRONMENT.model_copy(update={"device": "another"})},
        {"environment": ENVIRONMENT.model_copy(update={"driver": "580"})},
        {"cache": "hot"},
    ],
    ids=str,
)
def test_what_is_not_comparable_makes_tables_of_its_own(changes: dict[str, Any]) -> None:
    other = batch("final", 64, [(A, 100), (A, 100), (C, 50)], **changes)
    tables = derive([*tuned_run(), *other]).tables
    assert len(tables) == 2
    assert len({file_name(table) for table in tables}) == 2
    assert tables[0].entries == only(tuned_run()).entries


def test_runs_of_two_files_are_not_taken_for_one_batch() -> None:
    """Both files have a first final comparison: the later one decides, and their samples are not mixed."""
    other = batch("final", 64, [(A, 1000), (A, 1000), (B, 700)])
    (table,) = derive(batch("final", 64, [(A, 100), (A, 100), (B, 80)]), other).tables
    (bucket,) = table.entries[0].buckets
    assert bucket.speedup == pytest.approx(1000 / 700, rel=1e-5)
    assert bucket.noise == 0.01


def test_records_of_other_suites_and_broken_ones_are_left_out() -> None:
    broken = batch("final", 64, [(A, 100), (A, 100)])
    broken = [one.model_copy(update={"problem": {"T": "many"}}) for one in broken]
    derived = derive([record(), *broken, *tuned_run()])
    assert len(derived.tables) == 1
    assert len(derived.left_out) == 1
    assert "is no problem" in derived.left_out[0]


def test_winners_are_what_beat_the_default_somewhere() -> None:
    assert winners(tuned_run()) == [B, C]
    finals = [one for one in tuned_run() if one.point.stage == "final"]
    assert winners(finals) == [B]
    assert winners([]) == []


def test_noise_alone_makes_no_tables_that_differ_from_the_default() -> None:
    """At most one of twenty comparisons of equal candidates has a winner."""
    generator = np.random.default_rng(0)
    records = []
    for T in range(1, 21):
        made = batch("final", T, [(A, 1), (A, 1), (B, 1), (C, 1), (D, 1)])
        records += [one.model_copy(update={"timing": _noisy(generator)}) for one in made]
    verdicts = [bucket.verdict for bucket in of(only(records), "uniform").buckets]
    assert len(verdicts) == 20
    assert verdicts.count("tuned") <= 1


def _noisy(generator: np.random.Generator) -> Timing:
    samples = (1e5 * generator.lognormal(sigma=0.05, size=20)).tolist()
    return Timing(clock="perf_counter", cache="cold", samples_ns=samples, stopped="settled")
