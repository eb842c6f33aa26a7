"""Files are known by their beginning, and none is written over one of another kind."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from records import record
from typer.testing import CliRunner

from moebench.cli.main import app
from moebench.common.errors import UserError
from moebench.results.record.file_content import (
    FileContent,
    WouldOverwrite,
    content_of,
    refuse_no_place,
    refuse_to_replace,
)
from moebench.results.record.store import Store, StoreError

MOEBENCH = Path(sys.executable).with_name("moebench")
RECORD = record().model_dump_json(exclude_none=True) + "\n"
PREDICTION = '{"kind":"prediction","schema_version":1}\n'


@pytest.mark.parametrize(
    ("text", "content"),
    [
        ("", FileContent.nothing),
        (RECORD, FileContent.records),
        (RECORD[:5], FileContent.records),  # of a run that was killed
        (PREDICTION, FileContent.predictions),
        ("<!doctype html>", FileContent.other),
        ("hello\n" + RECORD, FileContent.other),
    ],
)
def test_a_file_is_known_by_its_beginning(text: str, content: FileContent, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text(text)
    assert content_of(path) is content


def test_what_is_missing_or_no_regular_file_holds_nothing(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert {content_of(tmp_path / name) for name in ("missing", "pipe", "")} == {FileContent.nothing}


@pytest.mark.parametrize(
    ("there", "by", "refused"),
    [
        (RECORD, FileContent.other, True),
        (RECORD, FileContent.predictions, True),
        (RECORD, FileContent.records, False),
        (PREDICTION, FileContent.other, True),
        (PREDICTION, FileContent.records, True),
        (PREDICTION, FileContent.predictions, False),
        ("notes", FileContent.records, True),
        ("notes", FileContent.predictions, True),
        ("<!doctype html>", FileContent.other, False),
        ("", FileContent.predictions, False),
    ],
)
def test_records_and_predictions_give_way_to_their_own_kind_only(
    there: str, by: FileContent, *, refused: bool, tmp_path: Path
) -> None:
    path = tmp_path / "file"
    path.write_text(there)
    if refused:
        with pytest.raises(WouldOverwrite, match=r"file holds .*: give another --output"):
            refuse_to_replace(path, by)
    else:
        refuse_to_replace(path, by)


def test_what_is_read_is_not_written_over_by_another_name(tmp_path: Path) -> None:
    read, written = tmp_path / "r.csv", tmp_path / "w.csv"
    read.write_text("no records\n")
    written.symlink_to(read)
    with pytest.raises(WouldOverwrite, match="is what is read"):
        refuse_to_replace(written, FileContent.other, [read])


def test_a_name_that_no_file_can_have_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    (tmp_path / "a.txt").touch()
    with pytest.raises(UserError, match="is a folder: give the name of a file as --output"):
        refuse_no_place(tmp_path)
    with pytest.raises(UserError, match=r"lies in .*a\.txt, which is no folder: give another --output"):
        refuse_no_place(tmp_path / "a.txt" / "deep" / "t.npz")
    refuse_no_place(tmp_path / "new" / "deep" / "t.npz")


def test_a_link_is_locked_with_what_it_points_to(tmp_path: Path) -> None:
    link, path = tmp_path / "link.jsonl", tmp_path / "r.jsonl"
    with Store(path):
        link.symlink_to(path)
        with pytest.raises(StoreError, match="another run is writing it"), Store(link):
            pass


def test_a_pipe_is_no_store(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(StoreError, match="no regular file"), Store(tmp_path / "pipe"):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["pipe"]


@pytest.mark.parametrize(
    "verb",
    [
        ["run", "smoke", "-o", "new.html"],
        ["run", "smoke", "-o", "notes.txt"],
        ["run", "smoke", "-o", "page.jsonl"],  # whose page exists, and holds records
        ["report", "r.jsonl", "-o", "copy.md"],
        ["report", "copy.md"],
        ["report", "pipe"],  # which has no place for pages beside it
        ["export", "r.jsonl", "-o", "r.jsonl"],
        ["predict", "--model", "DeepSeek-V3", "--machine", "dgx-h100", "--ranks", "8", "-o", "r.jsonl"],
        ["clock", "-o", "r.jsonl"],
    ],
)
def test_no_verb_loses_records(verb: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("r.jsonl", "copy.md", "page.html"):
        (tmp_path / name).write_text(RECORD)
    (tmp_path / "notes.txt").write_text("notes\n")
    os.mkfifo(tmp_path / "pipe")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
    answer = CliRunner().invoke(app, verb)
    assert answer.exit_code == 2
    assert "moebench: " in answer.stderr
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()} == before


def test_records_are_read_from_standard_input(tmp_path: Path) -> None:
    read = subprocess.run(
        [str(MOEBENCH), "report", "-", "-o", "r.csv"],
        cwd=tmp_path,
        input=RECORD * 2,
        text=True,
        capture_output=True,
        check=False,
    )
    assert (read.returncode, read.stderr) == (0, "")
    assert (tmp_path / "r.csv").read_text().count("\n") == 2
