"""Archived records: a file for each machine, each record once, and no name in a record becomes a path."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from records import ENVIRONMENT, record

from moebench.results.record.store import StoreError
from moebench.results.regression.archive import keep, kept, machine

OTHER = ENVIRONMENT.model_copy(update={"device": "another CPU"})


def test_every_machine_has_a_file_and_every_record_a_line(tmp_path: Path) -> None:
    here, there = record(1.0), record(1.0, environment=OTHER)
    assert keep(tmp_path / "kept", [here, there, here]) == 2
    assert keep(tmp_path / "kept", [here, record(2.0)]) == 1
    files = {path.name for path in (tmp_path / "kept").glob("*.jsonl")}
    assert files == {f"{machine(ENVIRONMENT)}.jsonl", f"{machine(OTHER)}.jsonl"}
    loaded = kept(tmp_path / "kept")
    assert loaded.problems == []
    assert sorted((one.environment.device, one.point.x) for one in loaded.records) == [
        ("a CPU", 1.0),
        ("a CPU", 2.0),
        ("another CPU", 1.0),
    ]


def test_a_machine_is_the_same_after_an_update() -> None:
    updated = ENVIRONMENT.model_copy(update={"torch": "3.0", "driver": "9", "python": "4.0", "moebench": "2"})
    assert machine(updated) == machine(ENVIRONMENT)
    assert machine(ENVIRONMENT.model_copy(update={"cores": 1})) != machine(ENVIRONMENT)


@given(device=st.text())
def test_no_name_becomes_a_path(device: str) -> None:
    name = machine(ENVIRONMENT.model_copy(update={"device": device}))
    assert len(name) == 16
    assert set(name) <= set("0123456789abcdef")


def test_a_line_that_was_cut_off_is_reported_and_costs_no_other(tmp_path: Path) -> None:
    keep(tmp_path, [record(1.0)])
    (path,) = tmp_path.glob("*.jsonl")
    path.write_bytes(path.read_bytes() + b'{"schema_version"')
    assert keep(tmp_path, [record(1.0), record(2.0)]) == 1
    loaded = kept(tmp_path)
    assert [one.point.x for one in loaded.records] == [1.0, 2.0]
    assert len(loaded.problems) == 1


def test_a_folder_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "kept").write_text("")
    with pytest.raises(StoreError, match="give an --output that can be written"):
        keep(tmp_path / "kept", [record()])


def test_nothing_is_kept_where_nothing_is(tmp_path: Path) -> None:
    assert kept(tmp_path / "kept").records == []
