"""Measures: one list gives tables their columns, the glossary its meanings, and files their numbers."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from rich.console import Console

from moebench.reports import measures
from moebench.reports.columns import Measure, Value, worth
from moebench.reports.measures import MEASURES, columns, glossary, values
from moebench.reports.report import Report
from moebench.reports.table import table
from moebench.reports.terminal import terminal
from moebench.results.record import Clocks, Invariance, Phases, Record, Sameness, Stages, Status, Traffic

Make = Callable[..., Record]


def _headings(records: list[Record]) -> list[str]:
    return [column.heading for column in worth(columns(), table(records))]


def test_columns_appear_only_where_they_say_something(make: Make) -> None:
    plain = _headings([make()])
    assert plain[0] == "median (ms)"
    for heading in ("config", "saved for backward (MiB)", "padding (×)", "sent (MiB)", "energy (J)"):
        assert heading not in plain
    clocks = Clocks(sm_mhz=1, memory_mhz=1, power_w=1.0, temperature_c=1, throttle_reasons=[], energy_j=0.5)
    facts = {"problem": {"mode": "train"}, "padding": 2.0, "sent_bytes": [5], "clocks": clocks}
    full = _headings([make(config={"block": side}, **facts) for side in (32, 64)])
    for heading in ("config", "saved for backward (MiB)", "padding (×)", "sent (MiB)", "energy (J)"):
        assert heading in full


def test_no_roofline_no_column_for_its_share(make: Make) -> None:
    assert "of bound (%)" not in _headings([make(roofline=None)])


def test_values_have_the_units_of_their_names(make: Make) -> None:
    (row,) = table([make(ms=[2.0, 2.0, 2.0], padding=1.5, kept=0.5, peak=3 * 2**20, sent_bytes=[2**20, 2**20])])
    found = values(row)
    assert found["median_ms"] == found["low_ms"] == found["high_ms"] == pytest.approx(2)
    assert found["tokens_per_s"] == pytest.approx(1024 / 2e-3)
    assert found["peak_mib"] == pytest.approx(3)
    assert found["sent_mib"] == pytest.approx(2)
    assert found["padding"] == pytest.approx(1.5, rel=1e-6)
    assert found["drop_rate"] == pytest.approx(0.5), "a share is a fraction in files"
    (dropped,) = (column for column in columns() if column.heading == "dropped (%)")
    assert dropped.cell(row) == "50.0", "and a percentage in tables"


def test_a_row_that_did_not_pass_has_no_measured_value(make: Make) -> None:
    (row,) = table([make(status=Status.timeout, sent_bytes=[1], roofline=None)])
    assert {name for name, value in values(row).items() if value is not None} == {"config"}


def test_the_tokens_of_a_reference_are_routed_rows_and_give_no_throughput(make: Make) -> None:
    (row,) = table([make("dense")])
    assert values(row)["tokens_per_s"] is None


def test_traffic_and_phases_of_ranks_become_shares(make: Make) -> None:
    traffic = Traffic(
        ranks_per_node=1,
        self_bytes=[0, 0],
        node_bytes=[0, 0],
        across_bytes=[2**20, 2**20],
        messages=[1, 1],
        rows=[3, 3],
        routes=[4, 4],
    )
    phases = Phases(
        compute_ns=[4.0, 4.0],
        communication_ns=[3.0, 3.0],
        waiting_ns=[0.0, 2.0],
        busy_ns=[4.0, 4.0],
        exposed_ns=[1.0] * 2,
    )
    (row,) = table([make().model_copy(update={"traffic": traffic, "phases": phases})])
    found = values(row)
    assert found["across_mib"] == pytest.approx(2)
    assert found["copies_per_route"] == pytest.approx(0.75)
    assert found["communicating"] == pytest.approx(6 / 16)
    assert found["waiting"] == pytest.approx(2 / 16)
    assert found["hidden"] == pytest.approx(0.75)


def test_moving_is_the_share_of_dispatch_and_combine_where_they_are_known(make: Make) -> None:
    def moving(stages: Stages | None) -> Value:
        (row,) = table([make().model_copy(update={"stages": stages})])
        return values(row)["moving"]

    assert moving(None) is None
    assert moving(Stages(stages_ns={}, whole_ns=10.0)) is None, "a peer's, which is not known to move nothing"
    assert moving(Stages(stages_ns={"dispatch": 2.0, "up": 5.0, "combine": 1.0}, whole_ns=10.0)) == pytest.approx(0.3)
    assert moving(Stages(stages_ns={"combine": 1.0}, whole_ns=10.0)) == pytest.approx(0.1)


def test_names_and_headings_are_unique_and_every_measure_has_a_meaning() -> None:
    for found in ([one.name for one in MEASURES], [one.heading for one in MEASURES if one.heading]):
        assert len(found) == len(set(found))
    assert all(one.meaning for one in MEASURES)


def test_the_glossary_explains_what_is_shown_and_nothing_else(make: Make) -> None:
    shown = worth(columns(), table([make()]))
    found = glossary(column.heading for column in shown)
    assert [heading for heading, _ in found] == [column.heading.partition(" (")[0] for column in shown]


def test_a_new_measure_is_one_line_and_every_format_has_it(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    added = Measure("wall_s", "wall time", "s", "seconds that the whole trial took", lambda row: row.record.wall_s)
    monkeypatch.setattr(measures, "MEASURES", (*MEASURES, added))
    report = Report([make("a"), make("b", ms=2.0)])
    for suffix in (".html", ".md"):
        text = report.write(tmp_path / f"r{suffix}").read_text(encoding="utf-8")
        assert "wall time (s)" in text
        assert added.meaning in text
    assert list(pd.read_csv(report.write(tmp_path / "r.csv"))["wall_s"]) == [2.0, 2.0]
    (point,) = json.loads(report.write(tmp_path / "r.json").read_text())["points"]
    assert point["kernels"]["a"]["wall_s"] == 2.0
    console = Console(width=200, file=io.StringIO(), record=True)
    for section in terminal(report.sections):
        console.print(section)
    assert "wall" in console.export_text()


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (Sameness(guaranteed=True), "same (by construction)"),
        (Sameness(guaranteed=False), "same (observed)"),
        (Sameness(guaranteed=False, differs="token 17", token=17, distance=6.04e-7), "token 17 (rounding, 6e-07)"),
        (Sameness(guaranteed=True, differs="dw_up of expert 3", distance=1e-8), "dw_up of expert 3 (rounding, 1e-08)"),
        (Sameness(guaranteed=False, differs="token 0", distance=1.2, beyond_rounding=5), "token 5 (up to 1)"),
        (Sameness(guaranteed=False, differs="token\x1b[2J", distance=1e-8), "token [2J (rounding, 1e-08)"),
    ],
)
def test_bits_are_the_same_or_the_first_token_is_named(make: Make, found: Sameness, words: str) -> None:
    (row,) = table([make().model_copy(update={"invariance": Invariance(alone=found)})])
    assert values(row)["same_alone"] == words
    assert values(row)["same_batch"] is None
    assert [column.heading for column in worth(columns(), [row])][-1:] == ["alone"]
