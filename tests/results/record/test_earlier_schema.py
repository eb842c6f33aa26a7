"""Reading lines of schema 1: the words in their series become fields."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from records import record

from moebench.results.record import Record, Traffic
from moebench.results.record.store import load

RECORDED = Path(__file__).parents[3] / "results" / "recorded"


def line(series: str, suite: str = "test", cache: str | None = "cold") -> str:
    """Return a line of schema 1: a trial that passed with its calls timed in this way, or one that failed."""
    if cache is None:
        found: dict[str, Any] = json.loads(record(status="crashed", reason="it died", timing=None).model_dump_json())
    else:
        found = json.loads(record().model_dump_json())
        found["timing"]["cache"] = cache
    point = {name: found["point"][name] for name in ("question", "axis", "x", "baseline")}
    return json.dumps({**found, "schema_version": 1, "point": {**point, "suite": suite, "series": series}})


@pytest.mark.parametrize(
    ("series", "cache", "fields"),
    [
        ("Mixtral-8x7B, T=4", "cold", ("Mixtral-8x7B, T=4", "cold")),
        ("Mixtral-8x7B, T=4, hot caches", "hot", ("Mixtral-8x7B, T=4", "hot")),
        ("Mixtral-8x7B, T=4, eager calls", "eager", ("Mixtral-8x7B, T=4", "eager")),
        ("Mixtral-8x7B, T=4, hot caches", None, ("Mixtral-8x7B, T=4", "hot")),
        ("search 1", "cold", ("search 1", "cold")),
    ],
)
def test_how_calls_were_timed_becomes_a_field(series: str, cache: str | None, fields: tuple[str, str]) -> None:
    point = Record.model_validate_json(line(series, cache=cache)).point
    assert (point.series, point.cache) == fields
    assert (point.stage, point.batch) == (None, None)
    assert point.line == series


@pytest.mark.parametrize("stage", ["search", "final", "cross", "held-out"])
def test_stage_and_batch_of_a_tuning_run_become_fields(stage: str) -> None:
    point = Record.model_validate_json(line(f"{stage} 12, hot caches", suite="tune", cache="hot")).point
    assert (point.series, point.stage, point.batch, point.cache) == ("", stage, 12, "hot")
    assert point.line == f"{stage} 12, hot caches"


def test_what_is_read_is_written_as_the_schema_of_today() -> None:
    read = Record.model_validate_json(line("final 2", suite="tune"))
    assert json.loads(read.model_dump_json())["schema_version"] == 2
    assert Record.model_validate_json(read.model_dump_json(exclude_none=True)) == read


def test_bytes_sent_are_read_from_the_traffic() -> None:
    """Schema 1 wrote their sum beside it."""
    traffic = {name: [1, 2] for name in Traffic.model_fields if name != "ranks_per_node"} | {"ranks_per_node": 2}
    old = json.dumps({**json.loads(line("s")), "sent_bytes": [2, 4], "traffic": traffic})
    assert Record.model_validate_json(old).sent_bytes == [2, 4]
    assert Record.model_validate_json(line("s")).sent_bytes == []


def test_bytes_sent_are_kept_where_there_is_no_traffic() -> None:
    read = Record.model_validate_json(json.dumps({**json.loads(line("s")), "sent_bytes": [2, 4]}))
    assert Record.model_validate_json(read.model_dump_json()).sent_bytes == [2, 4]


@pytest.mark.parametrize("text", ['{"schema_version": 1}', '{"schema_version": 1, "point": {"series": 3}}'])
def test_a_line_that_is_no_record_is_still_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "r.jsonl").write_text(text + "\n")
    (problem,) = load(tmp_path / "r.jsonl").problems
    assert "not a record" in problem


@pytest.mark.parametrize("path", sorted(RECORDED.glob("cpu-*.jsonl")), ids=lambda path: path.name)
def test_every_recorded_file_of_schema_1_is_read_with_the_label_it_had(path: Path) -> None:
    lines = [json.loads(text) for text in path.read_text().splitlines()]
    loaded = load(path)
    assert loaded.problems == []
    if lines[0]["schema_version"] > 1:
        return
    assert {one["schema_version"] for one in lines} == {1}
    assert [record.point.line for record in loaded.records] == [one["point"]["series"] for one in lines]
    assert all((record.point.suite == "tune") == (record.point.stage is not None) for record in loaded.records)
