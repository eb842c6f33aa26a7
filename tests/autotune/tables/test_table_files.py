"""Files of tuned tables are read as they were written, named safely, and checked against their records."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from tuner_records import A, C, batch, only, tuned_run

from moebench.autotune.tables.build import derive
from moebench.autotune.tables.table_files import check, derive_files, file_name, write
from moebench.kernels.tuned.lookup import read
from moebench.results.record import Record
from moebench.results.record.store import StoreError


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
