"""Files of counters: one line each, read back as they were; the kinds of change and their texts."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moebench.results import counters
from moebench.results.counter_changes import CounterChange, Direction, changes
from moebench.results.counters import QUANTITIES, Counters, CountersError, Value, made_with, read, write

AT = "scatter, Mixtral-8x7B T=8192 train bfloat16"
NUMBERED = [name for name, quantity in QUANTITIES.items() if quantity.unit != "text"]
NUMBERS = st.one_of(st.integers(0, 2**63), st.floats(0, 1))
COUNTERS = st.dictionaries(
    st.text(min_size=1, alphabet=st.characters(codec="utf-8")),
    st.dictionaries(st.sampled_from(NUMBERED), NUMBERS, min_size=1),
    max_size=3,
)


def between(before: Counters, after: Counters) -> list[CounterChange]:
    return changes(before, after, refused={}, broken={})


@given(counted=COUNTERS)
def test_counters_come_back_from_a_file_of_one_line_each(
    counted: Counters, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("counters")
    write(folder, "calls", {"family": counted, "other": {AT: {"operators": 3}}})
    assert read(folder, "calls") == {**counted, AT: {"operators": 3}}
    lines = (folder / "family.json").read_text().splitlines()
    counters = [line for line in lines if re.search(rf': ({"|".join(QUANTITIES)})": [-0-9.e]+,?$', line)]
    assert len(counters) == sum(map(len, counted.values()))
    assert counters == sorted(counters, key=lambda line: json.loads("{" + line.rstrip(",") + "}").popitem()[0])


@given(counted=COUNTERS)
def test_what_is_as_accepted_is_no_change(counted: Counters) -> None:
    assert between(counted, counted) == []


@given(before=COUNTERS, after=COUNTERS)
def test_a_change_and_its_reverse_are_the_opposite(before: Counters, after: Counters) -> None:
    """Worse becomes better, new becomes missing, and different stays different."""
    opposite = {
        Direction.worse: Direction.better,
        Direction.better: Direction.worse,
        Direction.new: Direction.missing,
        Direction.missing: Direction.new,
        Direction.different: Direction.different,
    }
    there = sorted((change.point, change.direction) for change in between(before, after))
    back = sorted((change.point, opposite[change.direction]) for change in between(after, before))
    assert there == back


@pytest.mark.parametrize(
    ("name", "before", "after", "direction", "text"),
    [
        ("saved_bytes", 1_210_000_000, 1_480_000_000, "worse", "saved bytes 1.21 -> 1.48 GB (+22.3 %)"),
        ("saved_bytes", 1_480_000_000, 1_210_000_000, "better", "saved bytes 1.48 -> 1.21 GB (-18.2 %)"),
        ("peak_bytes", 985_088, 985_092, "worse", "peak memory 985088 -> 985092 B (+0.000406 %)"),
        ("peak_bytes", 900, 1_100, "worse", "peak memory 0.9 -> 1.1 kB (+22.2 %)"),
        ("executed_flops", 17_317_308_137_472, 0, "better", "executed FLOPs 17.32 -> 0 TFLOP (-100 %)"),
        ("useful_flops", 10**12, 2 * 10**12, "different", "useful FLOPs 1 -> 2 TFLOP (+100 %)"),
        ("padding", 0.031, 0.28, "worse", "padding 3.1 -> 28 %"),
        ("host_waits", 0, 1, "worse", "host waits 0 -> 1"),
        ("operators", 1_044, 1_043, "better", "operators 1044 -> 1043 (-0.0958 %)"),
        ("occupancy", 2, 1, "worse", "programs on a processor 2 -> 1 (-50 %)"),
        ("occupancy", 1, 2, "better", "programs on a processor 1 -> 2 (+100 %)"),
        ("spills STL", 3, 4, "worse", "instructions that spill STL 3 -> 4 (+33.3 %)"),
        ("config", "up=64 down=64", "up=128 down=64", "different", "default configuration up=64 -> up=128"),
        ("configs", 420, 240, "different", "configurations 420 -> 240 (-42.9 %)"),
    ],
)
def test_a_change_says_what_from_and_to(name: str, before: Value, after: Value, direction: str, text: str) -> None:
    (change,) = between({AT: {name: before}}, {AT: {name: after}})
    assert change == CounterChange(point=AT, direction=Direction(direction), text=text)


def test_the_worst_comes_first_and_says_why() -> None:
    accepted: Counters = {"a": {"operators": 5}, "b": {"operators": 5, "host_waits": 1}, "c": {"operators": 5}}
    found: Counters = {"a": {"operators": 6}, "n": {"operators": 1, "launches": 2}}
    found_changes = changes(accepted, found, refused={"b": "is dropless"}, broken={"c": "it raised", "d": "so did it"})
    assert [(change.direction.value, change.point, change.text) for change in found_changes] == [
        ("broken", "c", "it raised"),
        ("broken", "d", "so did it"),
        ("worse", "a", "operators 5 -> 6 (+20 %)"),
        ("missing", "b", "operators, host waits: is dropless"),
        ("new", "n", "operators, launches"),
    ]


def test_better_and_new_need_not_be_accepted() -> None:
    assert {direction.value for direction in Direction if not direction.bad} == {"better", "new"}


def test_counters_of_other_versions_do_not_compare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    versions: dict[str, str | None] = {"torch": "2.13.0+cpu", "transformers": None}
    monkeypatch.setattr(counters, "installed_version", versions.get)
    assert made_with("calls") == {"torch": "2.13.0", "transformers": "none"}
    write(tmp_path, "calls", {"scatter": {AT: {"operators": 3}}})
    versions["torch"] = "2.13.0+cu130"
    assert read(tmp_path, "calls") == {AT: {"operators": 3}}
    versions["torch"] = "2.14.0"
    with pytest.raises(CountersError, match=r"scatter.json .* torch 2.13.0, here there is 2.14.0.*--accept"):
        read(tmp_path, "calls")
    versions |= {"torch": "2.13.0", "transformers": "5"}
    with pytest.raises(CountersError, match="counters of transformers none, here there is 5"):
        read(tmp_path, "calls")


def test_machine_code_and_calls_share_a_folder_and_leave_each_other_alone(tmp_path: Path) -> None:
    write(tmp_path, "calls", {"old": {AT: {"operators": 3}}})
    write(tmp_path, "machine_code", {"machine_code": {AT: {"registers": 40}}})
    write(tmp_path, "calls", {"new": {AT: {"operators": 4}}})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["machine_code.json", "new.json"]
    assert read(tmp_path, "calls") == {AT: {"operators": 4}}
    assert read(tmp_path, "machine_code") == {AT: {"registers": 40}}


def test_another_size_of_the_code_is_no_change_worth_reporting() -> None:
    assert (
        between({AT: {"code_bytes": 64, "tensor_core HGMMA": 4}}, {AT: {"code_bytes": 80, "tensor_core HGMMA": 8}})
        == []
    )


def test_a_layer_that_is_broken_is_not_reported_for_each_of_its_launches_too() -> None:
    accepted: Counters = {AT: {"config": "up=64"}, f"{AT}, up": {"registers": 64}}
    (change,) = changes(accepted, {}, refused={}, broken={AT: "does not compile"})
    assert (change.direction, change.point) == (Direction.broken, AT)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{",
        '{"made_with": {}}',
        '{"made_with": {}, "counters": {"scatter, somewhere: speed": 3}}',
        '{"made_with": {}, "counters": {"scatter, somewhere: operators": "3 or so"}}',
        '{"made_with": {}, "counters": {"scatter, somewhere: operators": NaN}}',
        '{"made_with": {}, "counters": {"scatter, somewhere: config": 3}}',
        '{"made_with": {}, "counters": {}, "more": 1}',
    ],
)
def test_a_file_of_something_else_is_refused_and_kept(text: str, tmp_path: Path) -> None:
    path = tmp_path / "other.json"
    path.write_text(text)
    with pytest.raises(CountersError, match=r"other.json holds no counters \(.*\): restore it"):
        read(tmp_path, "calls")
    with pytest.raises(CountersError, match=r"other.json holds no counters"):
        write(tmp_path, "calls", {"scatter": {AT: {"operators": 3}}})
    assert [entry.name for entry in tmp_path.iterdir()] == ["other.json"]
    assert path.read_text() == text


def test_an_empty_folder_is_no_baseline(tmp_path: Path) -> None:
    with pytest.raises(CountersError, match="holds no counters to compare with: write them with --accept"):
        read(tmp_path, "calls")


def test_families_that_are_no_more_go_from_the_folder(tmp_path: Path) -> None:
    write(tmp_path, "calls", {"old": {AT: {"operators": 3}}, "kept": {}})
    write(tmp_path, "calls", {"new": {AT: {"operators": 4}}, "kept": {}})
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["kept.json", "new.json"]
    assert read(tmp_path, "calls") == {AT: {"operators": 4}}
