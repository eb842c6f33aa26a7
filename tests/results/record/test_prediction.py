"""Predictions are stored unchanged, and are never read as records, nor records as predictions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from records import record

from moebench.results.record.prediction import SCHEMA, Expected, Held, Prediction, Sent, Share, read, write
from moebench.results.record.store import StoreError, load

EXPECTED = Expected(
    seconds=0.5,
    straggling=0.1,
    hidden_s=0.0,
    parts={"products": Share(seconds=0.5, balanced_s=0.4)},
    bound="products",
    sent=Sent(itself=1.0, node=2.0, across=3.0),
    messages=4,
    memory=Held(weights=10, tokens=20, buffers=30, available=60.0),
)


def prediction(**changes: Any) -> Prediction:
    fields: dict[str, Any] = {
        "schema_version": SCHEMA,
        "series": "a model on a machine",
        "machine": "imagined",
        "ranks": 8,
        "ranks_per_node": 4,
        "group": 8,
        "key": "T8",
        "problem": {"T": 8},
        "dispatcher": "alltoall",
        "wire": "bfloat16",
        "chunks": 1,
        "expected": EXPECTED,
        "moebench": "0.1.0",
        "time": "2026-03-01T10:00:00+00:00",
    }
    return Prediction(**fields | changes)


@given(ranks=st.lists(st.integers(1, 2**20), max_size=4), text=st.text())
def test_what_is_written_is_read(tmp_path_factory: pytest.TempPathFactory, ranks: list[int], text: str) -> None:
    path = tmp_path_factory.mktemp("predictions") / "folder" / "p.jsonl"
    made = [prediction(ranks=count, series=text) for count in ranks]
    made.append(prediction(expected=None, reason="needs more ranks"))
    write(path, made)
    assert read(path) == made
    assert path.read_bytes().count(b"\n") == len(made)


def test_no_record_is_a_prediction_and_no_prediction_a_record(tmp_path: Path) -> None:
    write(tmp_path / "p.jsonl", [prediction()])
    loaded = load(tmp_path / "p.jsonl")
    assert loaded.records == []
    assert len(loaded.problems) == 1
    (tmp_path / "r.jsonl").write_text(record().model_dump_json() + "\n")
    with pytest.raises(StoreError, match=r"r\.jsonl holds something else than predictions"):
        read(tmp_path / "r.jsonl")


@pytest.mark.parametrize("line", [b"{}", b"not JSON", b"\xff", prediction().model_dump_json()[:-9].encode()])
def test_a_line_that_is_none_is_refused(line: bytes, tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    path.write_bytes(prediction().model_dump_json().encode() + b"\n" + line + b"\n")
    with pytest.raises(StoreError, match="give a file that `moebench predict` wrote"):
        read(path)


@pytest.mark.parametrize(
    "changes",
    [{"expected": None}, {"reason": "why not"}, {"kind": "record"}, {"schema_version": 2}, {"ranks": 0}, {"more": 1}],
)
def test_a_prediction_has_an_expectation_or_a_reason_and_nothing_strange(changes: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        prediction(**changes)


@pytest.mark.parametrize("place", ["file/p.jsonl", "folder"])
def test_a_place_that_cannot_be_written_is_named(place: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    with pytest.raises(StoreError, match="give an --output that can be written"):
        write(tmp_path / place, [prediction()])


def test_memory_fits_or_does_not() -> None:
    assert EXPECTED.memory.total == 60
    assert EXPECTED.memory.fits
    assert not EXPECTED.memory.model_copy(update={"available": 59.0}).fits
