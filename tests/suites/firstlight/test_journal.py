"""The journal: written whole or not at all, continued, and refused on another machine."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from cheap_session import DECLARED, cheap, held

from moebench.suites.firstlight.journal import NAME, Journal, JournalError, StepStatus, begun, hold, read


def fresh(device: str = "none", form: str = "rehearsal", before: Journal | None = None) -> Journal:
    return begun(DECLARED, form=form, moebench="0", device=device, before=before)


def test_a_journal_names_every_step_before_any_has_run(tmp_path: Path) -> None:
    fresh().save(tmp_path)
    found = read(tmp_path)
    assert found is not None
    assert [entry.name for entry in found.steps] == [step.name for step in DECLARED]
    assert {entry.status for entry in found.steps} == {StepStatus.waiting}


def test_the_journal_names_the_running_step(tmp_path: Path) -> None:
    """The command reads the journal on the disk while it runs."""
    step = cheap(DECLARED[3], ("/bin/sh", "-c", f"cp {NAME} seen.json"))
    held(tmp_path, {step.name: step})
    seen = Journal.model_validate_json((tmp_path / "seen.json").read_bytes())
    assert [entry.status for entry in seen.steps[:5]] == ["done"] * 3 + ["running", "waiting"]
    assert "killed during it" in seen.entry(step.name).reason


def test_an_earlier_journal_is_continued(tmp_path: Path) -> None:
    before = held(tmp_path)
    after = fresh(before=read(tmp_path))
    told = [(entry.name, entry.status, entry.seconds, entry.files) for entry in after.steps]
    assert told == [(entry.name, entry.status, entry.seconds, entry.files) for entry in before.steps[:-1]]


@pytest.mark.parametrize("changed", [{"device": "NVIDIA H100"}, {"form": "gpu"}])
def test_a_folder_of_another_machine_or_of_a_rehearsal_is_refused(changed: dict[str, str]) -> None:
    with pytest.raises(JournalError, match="give another --output"):
        fresh(before=fresh(), **changed)


@pytest.mark.parametrize("text", ["", "{}", "[1", '{"schema_version": 2}'])
def test_an_invalid_journal_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / NAME).write_text(text)
    with pytest.raises(JournalError, match="give another --output"):
        read(tmp_path)
    assert (tmp_path / NAME).read_text() == text


def test_a_full_disk_leaves_the_journal_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fresh().save(tmp_path)
    was = (tmp_path / NAME).read_bytes()

    def full(_file: int) -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(os, "fsync", full)
    later = fresh()
    later.steps[0].status = StepStatus.done
    with pytest.raises(JournalError, match="No space left on device; free some space"):
        later.save(tmp_path)
    assert (tmp_path / NAME).read_bytes() == was


def test_a_folder_has_one_session(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "folder"
    with hold(folder), pytest.raises(JournalError, match="another session is running"), hold(folder):
        pass
    with hold(folder):
        pass


def test_a_folder_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file", Path("/proc/none")):
        with pytest.raises(JournalError, match="give an --output that can be written"), hold(folder):
            pass
