"""A report is computed once, whatever number of formats is written, and a format is found by its suffix or its name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from unittest.mock import Mock

import pandas as pd
import pytest

from moebench.common.names import UnknownName
from moebench.reports.points import points
from moebench.reports.report import FORMATS, Report, ReportError
from moebench.reports.terminal import terminal
from moebench.results.record import Record
from moebench.results.stats import median

Make = Callable[..., Record]


def test_intervals_are_computed_once_for_all_formats(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counting = Mock(wraps=median)
    monkeypatch.setattr("moebench.reports.table.median", counting)
    report = Report([make(kernel, x=float(x)) for kernel in ("a", "b") for x in range(3)])
    for suffix in (".html", ".md", ".csv", ".json"):
        report.write(tmp_path / f"r{suffix}")
    assert terminal(report.sections)
    assert len(points(report.sections)) == 3
    assert counting.call_count == 6


def test_every_format_says_what_it_is_and_has_a_suffix_that_no_other_has() -> None:
    names = FORMATS.names()
    assert {"csv", "html", "json", "markdown", "parquet", "pytest_benchmark"} <= set(names)
    assert all(FORMATS.summary(name) for name in names)
    assert len({FORMATS.load(name).suffix for name in names}) == len(names)


@pytest.mark.parametrize(
    ("file", "beginning"),
    [("r.csv", "suite,"), ("r.json", '{\n  "points"'), ("r.benchmark.json", '{\n "machine_info"'), ("r.md", "# moe")],
)
def test_the_suffix_of_a_file_names_its_format(file: str, beginning: str, make: Make, tmp_path: Path) -> None:
    assert Report([make()]).write(tmp_path / file).read_text(encoding="utf-8").startswith(beginning)


def test_a_named_format_is_written_whatever_the_suffix(make: Make, tmp_path: Path) -> None:
    written = Report([make()]).write(tmp_path / "r.txt", "csv")
    assert written.read_text(encoding="utf-8").startswith("suite,")


def test_a_record_is_no_formula_and_renames_no_column(make: Make, tmp_path: Path) -> None:
    bad = make("=HYPERLINK(1)", x=-1, problem={"T": 1, "suite": "another"}, reason="\x1b[2J-1")
    row = pd.read_csv(Report([bad]).write(tmp_path / "r.csv")).iloc[0]
    assert (row["kernel"], row["x"], row["suite"], row["reason"]) == ("'=HYPERLINK(1)", -1, "tokens", "[2J-1")


def test_an_unknown_format_is_answered_with_the_nearest_names(make: Make, tmp_path: Path) -> None:
    with pytest.raises(UnknownName, match="no format is named 'parket': did you mean parquet"):
        Report([make()]).write(tmp_path / "r.txt", "parket")
    with pytest.raises(ReportError, match=r"r\.pdf: give a name that ends in \.md, .* or \.benchmark\.json"):
        Report([make()]).write(tmp_path / "r.pdf")


def test_a_file_that_cannot_be_written_is_named(make: Make, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ReportError, match="give an --output that can be written"):
        Report([make()]).write(tmp_path / "file" / "r.csv")
