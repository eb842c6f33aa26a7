"""Tables say what their records say: who won, by how much, what it costs elsewhere; and nothing else."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from records import ENVIRONMENT, record

from moebench.autotune.tables.build import check, derive, derive_files, file_name, held_out, look_up_in, winners, write
from moebench.kernels.problem import Problem
from moebench.kernels.tuned.lookup import Found, NotCovered, read
from moebench.kernels.tuned.tuned_table import Bucket, TableEntry, TunedTable
from moebench.results.record import Point, Record, Stage, Status, Timing
from moebench.results.record.store import StoreError

PROBLEM = Problem(T=64, D=32, F=64, E=4, K=2)
A, B, C, D = ({"tile": tile} for tile in (512, 128, 256, 64))
SKEWED = "zipf:1.2"


def batch(
    stage: Stage,
    T: int,
    times: Sequence[tuple[dict[str, int], float]],
    load: str = "uniform",
    number: int = 1,
    **more: Any,
) -> list[Record]:
    """Records measured together; a time that is no number is a failure."""
    problem = PROBLEM.replace(T=T, load=load)
    point = Point(
        suite="tune",
        question="?",
        axis="tokens T",
        series="",
        x=T,
        baseline="scatter",
        cache=more.pop("cache", "cold"),
        stage=stage,
        batch=number,
    )
    fields: dict[str, Any] = {"point": point, "key": problem.key, "problem": dataclasses.asdict(problem)}
    fields |= {"kernel": "scatter", "source": "abc", **more}
    failed = {"status": Status.crashed, "reason": "it died", "timing": None}
    return [
        record(T, **fields, config=config, **({"timing": timing(ns)} if not math.isnan(ns) else failed))
        for config, ns in times
    ]


def timing(median_ns: float) -> Timing:
    """Twenty samples with a quiet spread around the median."""
    samples = [median_ns * (1 + 0.001 * (number - 9.5)) for number in range(20)]
    return Timing(clock="perf_counter", cache="cold", samples_ns=samples, stopped="settled")


def tuned_run() -> list[Record]:
    """At 64 tokens B wins by a quarter, at 256 nothing does; both are compared under a skewed load too."""
    return [
        *batch("search", 64, [(A, 100), (B, 79), (D, math.nan)]),
        *batch("final", 64, [(A, 100), (A, 100.5), (B, 80), (C, 90)]),
        *batch("final", 256, [(A, 400), (A, 401), (C, 398)]),
        *batch("cross", 64, [(A, 101), (A, 101), (B, 81), (C, 90)]),
        *batch("cross", 256, [(A, 400), (A, 401), (B, 500), (C, 399)]),
        *batch("cross", 64, [(A, 120), (A, 120), (B, 150), (C, 115)], SKEWED),
        *batch("cross", 256, [(A, 500), (A, 500), (B, 700), (C, 520)], SKEWED),
    ]


def only(records: Sequence[Record]) -> TunedTable:
    derived = derive(records)
    assert derived.left_out == ()
    (table,) = derived.tables
    return table


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
    """Those of another batch are brought to it by the default that both have."""
    few, _ = of(only(tuned_run()), "uniform").buckets
    default = math.sqrt(100 * 101)
    expected = [default, default * 81 / 101, default * 90 / 101]
    assert few.median_ns == pytest.approx(expected, rel=1e-5)


def test_the_robust_choice_has_the_least_worst_regret() -> None:
    """At 64 C is within an eighth of the best under both, and beats the default; at 256 the default is the best."""
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
    """It is what was measured twice, wherever it stands."""
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
    """Both have a first final: the later one decides, and its samples are not mixed with the other's."""
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


def write_records(path: Path, records: Sequence[Record]) -> Path:
    path.write_text("".join(one.model_dump_json(exclude_none=True) + "\n" for one in records))
    return path


def test_a_table_goes_to_a_file_and_back(tmp_path: Path) -> None:
    records = write_records(tmp_path / "tune.jsonl", tuned_run())
    (table,) = derive_files([records]).tables
    path = write(table, tmp_path / "tuned" / "deeper")
    assert read(path) == table
    assert [one.name for one in path.parent.iterdir()] == [path.name], "nothing unfinished is left"
    assert write(table, path.parent) == path
    assert table.origins[0].file == "tune.jsonl"


def test_a_run_that_goes_on_keeps_its_file_and_another_run_has_its_own(tmp_path: Path) -> None:
    records = write_records(tmp_path / "tune.jsonl", tuned_run())
    (table,) = derive_files([records]).tables
    later = batch("final", 1024, [(A, 100), (A, 100), (C, 50)], time="2027-01-01T00:00:00+00:00")
    (more,) = derive_files([write_records(records, [*tuned_run(), *later])]).tables
    (other,) = derive(later).tables
    assert table != more
    assert file_name(table) == file_name(more) != file_name(other)


def test_names_of_files_hold_nothing_strange() -> None:
    table = only(tuned_run())
    evil = dataclasses.replace(
        table, kernel="../../etc/x;\x00 y", environment=dict(table.environment) | {"device": "/é" * 200}
    )
    name = file_name(evil)
    assert set(name) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-")
    assert not name.startswith(".")
    assert len(name) < 150
    assert file_name(table).startswith("scatter.a_CPU.")


def test_a_folder_that_cannot_be_written_is_named_with_the_remedy(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="set MOEBENCH_TUNED"):
        write(only(tuned_run()), tmp_path / "file")


def test_a_table_that_says_what_its_records_say_passes_the_check(tmp_path: Path) -> None:
    records = write_records(tmp_path / "tune.jsonl", tuned_run())
    other = write_records(tmp_path / "other.jsonl", batch("final", 64, [(A, 1), (A, 1)], kernel="padded"))
    for files in ([records], [records, other]):
        for table in derive_files(files).tables:
            assert check(write(table, tmp_path / "tuned"), [other, records]) == []


@pytest.mark.parametrize("edit", ["0.8", "chosen", "config"])
def test_a_table_that_was_edited_does_not(tmp_path: Path, edit: str) -> None:
    records = write_records(tmp_path / "tune.jsonl", tuned_run())
    path = write(derive_files([records]).tables[0], tmp_path)
    content = json.loads(path.read_text())
    entry = content["entries"][0]
    if edit == "0.8":
        entry["buckets"][0]["median_ns"][1] *= 0.8
    elif edit == "chosen":
        entry["buckets"][0]["chosen"] = 2
    else:
        entry["configs"][1] = {"tile": 1}
    path.write_text(json.dumps(content))
    assert check(path, [records]) == [f"{path}: it is not what its records say; derive it again"]


def test_a_table_without_its_records_does_not_pass(tmp_path: Path) -> None:
    records = write_records(tmp_path / "tune.jsonl", tuned_run())
    path = write(derive_files([records]).tables[0], tmp_path)
    assert check(path, []) == [f"{path}: tune.jsonl is not among the records"]
    write_records(records, tuned_run()[:-1])
    assert check(path, [records]) == [f"{path}: tune.jsonl has changed since"]
    assert check(write(only(tuned_run()), tmp_path / "b"), [records])[0].endswith("it names no records")
    assert "not JSON" in check(records, [records])[0]
    with pytest.raises(StoreError, match="give a file of records"):
        check(path, [tmp_path / "missing"])


def test_the_regret_of_looking_up_what_was_held_out() -> None:
    """Between 64, where B won, and 256, where the default was kept, B is the fastest by interpolation at 80."""
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


def test_noise_alone_makes_no_tables_that_differ_from_the_default() -> None:
    """Twenty places where all candidates are the default: at most one has a winner."""
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
