"""A file is written whole or not at all."""

from __future__ import annotations

import gzip
import os
from pathlib import Path

import pytest

from moebench.common.errors import UserError
from moebench.common.files import NotUtf8, TooLong, read_text, write_new_folder, write_whole


def test_a_file_is_replaced_and_nothing_stays_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "new" / "table.json"
    write_whole(path, "old")
    write_whole(path, "ü")
    assert path.read_text(encoding="utf-8") == "ü"
    assert list(path.parent.iterdir()) == [path]


def test_what_cannot_be_finished_leaves_the_old_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "table.json"
    write_whole(path, "old")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_whole(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_others_may_read_it_as_the_umask_allows(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write_whole(tmp_path / "a", "")
    finally:
        os.umask(before)
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o640


def test_text_is_read_whichever_program_saved_it(tmp_path: Path) -> None:
    path = tmp_path / "text"
    path.write_text("ü", encoding="utf-8-sig")
    assert read_text(path) == "ü"
    path.write_text("ü", encoding="latin-1")
    with pytest.raises(NotUtf8, match="text is no text in UTF-8: save it as UTF-8"):
        read_text(path)
    path.write_bytes(gzip.compress(b"text"))
    with pytest.raises(NotUtf8, match="text is compressed: unpack it, as with gunzip"):
        read_text(path)
    path.write_text("ü", encoding="utf-16")
    with pytest.raises(NotUtf8, match="text is text in UTF-16: save it as UTF-8"):
        read_text(path)


def test_a_device_that_never_ends_is_refused() -> None:
    with pytest.raises(TooLong, match="/dev/zero has more than 64 MiB: give a file of text"):
        read_text(Path("/dev/zero"))


def test_a_new_folder_has_all_of_its_files_or_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "plain").mkdir()
    write_new_folder(tmp_path / "a/b", {"c/d.txt": "é", "e.bin": b"\xff"})
    assert (tmp_path / "a/b/c/d.txt").read_text(encoding="utf-8") == "é"
    assert (tmp_path / "a/b/e.bin").read_bytes() == b"\xff"
    assert (tmp_path / "a/b").stat().st_mode == (tmp_path / "plain").stat().st_mode
    with pytest.raises(UserError, match=r"full: File exists: give the name of a folder that can be written"):
        write_new_folder(tmp_path / "full", {"x": "a file", "x/y": "in a folder of its name"})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "plain"]
