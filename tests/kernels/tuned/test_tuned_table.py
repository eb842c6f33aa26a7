"""A tuned table is read as it was written, and anything else is refused with a reason."""

from __future__ import annotations

import contextlib
import dataclasses
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tables import bucket, entry, environment, table

from moebench.kernels.tuned.table_reader import parse_table
from moebench.kernels.tuned.tuned_table import UNKNOWN_DRIVER, WIDTH, InvalidTable

TIMES = st.floats(1, 1e17)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@given(times=st.lists(st.tuples(TIMES, st.none() | TIMES, TIMES), min_size=1, max_size=4), word=st.text())
def test_a_table_is_read_as_it_was_written(times: list[tuple[float, float | None, float]], word: str) -> None:
    """Times and words may be anything, and every number is read back exactly."""
    buckets = [bucket(2**number, found) for number, found in enumerate(times)]
    robust = entry(loads=("uniform", word), configs=({"a": True, "b": 1.5, word: word}, {}, {"n": -3}))
    written = table(entry(*buckets), robust, kernel=word)
    assert parse_table(written.text()) == written
    assert parse_table(written.text().encode()).text() == written.text()


def test_what_fits_a_line_is_on_one() -> None:
    lines = table(entry(configs=({"tile": 512}, {"tile": 128}, {"tile": 256}))).text().splitlines()
    assert '      "configs": [{"tile": 512}, {"tile": 128}, {"tile": 256}],' in lines
    assert '          "median_ns": [1000000.0, 500000.0, null],' in lines
    assert max(map(len, lines)) <= WIDTH
    assert len(lines) < 70


def edited(**changes: Any) -> str:
    return json.dumps(json.loads(table().text()) | changes)


def edited_entry(**changes: Any) -> str:
    return edited(entries=[json.loads(table().text())["entries"][0] | changes])


def edited_bucket(**changes: Any) -> str:
    buckets = json.loads(table().text())["entries"][0]["buckets"]
    return edited_entry(buckets=[buckets[0] | changes, buckets[1]])


def edited_shape(**changes: Any) -> str:
    return edited_entry(shape=json.loads(table().text())["entries"][0]["shape"] | changes)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "not JSON"),
        (table().text()[:-20], "not JSON"),
        (b"\xff\xfe\x00", "not JSON"),
        ("[" * 100_000, "not JSON: RecursionError"),
        ('{"a":' * 100_000, "not JSON: RecursionError"),
        ("9" * 5000, "not JSON"),
        ("3", "the file is 3, not an object"),
        ("{}", "moebench_table = None, this moebench reads 1"),
        (edited(moebench_table=2), "moebench_table = 2, this moebench reads 1"),
        (edited(moebench_table="\x1b[2J" * 99), r"moebench_table = '\\x1b"),
        (edited(kernel=7), "kernel is 7, not a word"),
        (edited(entries={}), r"entries is \{\}, not a list"),
        (edited(entries=[1]), "what should hold shape is 1"),
        (edited(measured=["now"]), "not a list of 2"),
        (edited(environment={}), "device is missing"),
        (edited(environment=environment(driver=3)), "environment.driver is 3"),
        (edited(environment={**environment(), "os": {}}), r"environment 'os' is \{\}"),
        (edited(records=[{"file": "x"}]), "sha256 is missing"),
        (edited_shape(D=0), "D = 0"),
        (edited_shape(D=[]), "D = "),
        (edited_shape(dtype="float64"), "dtype = 'float64'"),
        (edited_shape(T=3), "shape has the fields"),
        (edited_entry(shape={}), "shape has the fields"),
        (edited_entry(loads=[]), "no loads"),
        (edited_entry(loads=[3]), "load is 3"),
        (edited_entry(buckets=[]), "which must ascend"),
        (edited_entry(configs=[{"tile": [512]}, {}, {}]), r"configuration 'tile' = \[512\]"),
        (edited_entry(configs=[{"tile": None}, {}, {}]), "configuration 'tile' = None"),
        (edited_entry(configs=[{"tile": float("nan")}, {}, {}]), "configuration 'tile' = nan"),
        (edited_entry(configs=["tile"]), "a configuration is 'tile'"),
        (edited_entry(configs=[{}]), "median_ns is .* not a list of 1"),
        (edited_bucket(T=0), "T = 0"),
        (edited_bucket(T=256), "which must ascend"),
        (edited_bucket(T=2.5), "T is 2.5, not a whole number"),
        (edited_bucket(T=True), "T is True"),
        (edited_bucket(T=10**400), "T is 1000.*, not a whole number"),
        (edited_bucket(chosen=3), "chosen = 3 at T = 64 is no configuration"),
        (edited_bucket(chosen=2), "chosen = 2 at T = 64 is no configuration that was measured"),
        (edited_bucket(default=-1), "default is -1"),
        (edited_bucket(verdict="maybe"), "verdict = 'maybe'"),
        (edited_bucket(median_ns=[1, 0, None]), "chosen = 1"),
        *((edited_bucket(median_ns=[1, 1, ns]), "has a time below 0.001 ns") for ns in (0, 5e-324, 1e-300, 1e-4)),
        (edited_bucket(median_ns=[1, 1e300, None]), "median_ns is 1e"),
        (edited_bucket(median_ns=[1, float("inf"), None]), "median_ns is inf"),
        (edited_bucket(speedup="fast"), "speedup is 'fast'"),
        (edited_bucket(interval=[1]), "not a list of 2"),
        (edited_bucket(regret=[]), r"regret is \[\], not an object"),
    ],
)
def test_what_is_no_table_is_refused_with_the_value(text: str | bytes, words: str) -> None:
    with pytest.raises(InvalidTable, match=words) as caught:
        parse_table(text)
    assert len(str(caught.value)) < 300
    assert str(caught.value).isprintable()


@given(data=st.data(), replaced=JSON)
def test_whatever_is_put_anywhere_it_is_read_or_refused(data: st.DataObject, replaced: Any) -> None:
    """One value at any depth is replaced by anything: the table is read or InvalidTable is raised."""
    content = json.loads(table().text())
    here = content
    while True:
        key = data.draw(st.sampled_from(list(here) if isinstance(here, dict) else list(range(len(here)))))
        if not isinstance(here[key], dict | list) or not here[key] or data.draw(st.booleans()):
            break
        here = here[key]
    here[key] = replaced
    with contextlib.suppress(InvalidTable):
        parse_table(json.dumps(content))


def test_a_table_from_before_a_field_of_the_shape_existed_is_read_with_its_default() -> None:
    shape = json.loads(table().text())["entries"][0]["shape"]
    older = {name: value for name, value in shape.items() if name not in ("wire", "bias", "drop")}
    assert parse_table(edited_entry(shape=older)) == table()


@pytest.mark.parametrize("text", [edited(moebench_table=0), edited_entry(shape={}), edited_entry(buckets=[{}])])
def test_a_table_that_is_too_old_names_the_command_that_derives_it_again(text: str) -> None:
    with pytest.raises(InvalidTable, match="derive it again with `moebench tables build RECORDS`"):
        parse_table(text)


def test_a_use_is_refused_with_the_fields_that_differ() -> None:
    one = table(source="aaa")
    here = {"device": "x", "driver": None, "torch": "2.0", "triton": "3.0"}
    same = dataclasses.replace(one, environment=dict(here))
    assert same.differs("aaa", here) == []
    gpu = dataclasses.replace(one, environment={**here, "device_type": "cuda"})
    assert gpu.differs("aaa", here) == [UNKNOWN_DRIVER], "two machines of which neither tells its driver"
    assert gpu.differs("aaa", here | {"driver": "580"}) == ["driver: None / 580"]
    assert same.differs("bbb", here | {"torch": "2.1"}) == ["source: aaa / bbb", "torch: 2.0 / 2.1"]
