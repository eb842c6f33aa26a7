"""The gate between two made-up sides: its pairs, its looks, the runs that it starts and the records that it keeps."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import pytest
from simulated_checkouts import Asked, Imagined, Times, always

from moebench.results.record.store import Store, load
from moebench.results.regression.sequential import LOOKS
from moebench.results.regression.verdicts import Outcome
from moebench.suites.gate.checkouts import GateError, Side
from moebench.suites.gate.paired_runs import SAMPLES, Gate


@dataclass(frozen=True)
class Judged:
    """The verdicts of a gate, the runs that it started and the sentences that it printed."""

    verdicts: dict[str, Outcome]
    asked: tuple[Asked, Asked]
    sentences: list[str]
    files: tuple[Path, Path]


def judged(
    folder: Path,
    old: Times,
    new: Times,
    *,
    looks: Sequence[int] = LOOKS,
    kernels: Sequence[str] = (),
) -> Judged:
    asked: tuple[Asked, Asked] = ([], [])
    sentences: list[str] = []
    files = (folder / "old.jsonl", folder / "new.jsonl")
    with Store(files[0]) as first, Store(files[1]) as second:
        gate = Gate(
            sides=(cast(Side, Imagined("A", old, asked[0])), cast(Side, Imagined("B", new, asked[1]))),
            stores=(first, second),
            suites=["suite"],
            kernels=kernels,
            arguments=["--configs", "default"],
            floor=0.02,
            scratch=folder,
            tell=sentences.append,
        )
        verdicts = {verdict.key.kernel: verdict.status for verdict in gate.verdicts(looks)}
    return Judged(verdicts, asked, sentences, files)


def test_equal_sides_have_eight_processes_each(tmp_path: Path) -> None:
    gate = judged(tmp_path, always(loop=1, scatter=2), always(loop=1, scatter=2))
    assert gate.verdicts == {"loop": Outcome.same, "scatter": Outcome.same}
    assert gate.asked[0] == gate.asked[1] == 8 * [("suite", "--configs", "default", "--samples", str(SAMPLES))]
    assert [len(load(file).records) for file in gate.files] == [16, 16]
    (sentence,) = gate.sentences
    assert re.fullmatch(r"8 processes a side, \d+ s more: 2 same", sentence)


def test_what_seems_slower_is_measured_anew_and_alone(tmp_path: Path) -> None:
    gate = judged(tmp_path, always(loop=1, scatter=2), always(loop=1, scatter=2.1))
    assert gate.verdicts == {"loop": Outcome.same, "scatter": Outcome.slower}
    assert [arguments[-1] for arguments in gate.asked[0][8:]] == 8 * ["not loop"]
    assert gate.sentences[1] == "measuring the points that seemed slower again: 1"


def test_what_was_slower_only_once_is_the_same(tmp_path: Path) -> None:
    """A neighbour slows every process of the new side until the first look is over."""
    gate = judged(tmp_path, always(loop=1), lambda number: {"loop": 1.1 if number < 8 else 1})
    assert gate.verdicts == {"loop": Outcome.same}
    assert gate.sentences[0].endswith("1 slower")


def test_only_what_is_unclear_is_measured_on(tmp_path: Path) -> None:
    gate = judged(
        tmp_path,
        lambda number: {"loop": 1, "scatter": 2 + number % 5 / 10},
        lambda number: {"loop": 1, "scatter": 2 + number % 3 / 10},
        looks=(8, 12),
    )
    assert gate.verdicts == {"loop": Outcome.same, "scatter": Outcome.unclear}
    assert [arguments[-1] for arguments in gate.asked[0][8:]] == 4 * ["not loop"]
    assert gate.asked[0] == gate.asked[1]


def test_what_breaks_is_broken_without_another_look(tmp_path: Path) -> None:
    """A kernel breaks in one of sixteen runs; only its points are broken."""
    gate = judged(tmp_path, always(loop=1, scatter=2), lambda number: {"loop": 1, "scatter": 0 if number == 7 else 2})
    assert gate.verdicts == {"loop": Outcome.same, "scatter": Outcome.broken}
    assert len(gate.asked[0]) == 8


def test_kernels_that_are_named_are_asked_for(tmp_path: Path) -> None:
    gate = judged(tmp_path, always(loop=1, scatter=2), always(loop=1, scatter=2), kernels=["loop"])
    assert gate.verdicts == {"loop": Outcome.same}


def test_a_side_that_cannot_be_measured_ends_the_gate_and_leaves_what_there_is(tmp_path: Path) -> None:
    def breaks(number: int) -> dict[str, float]:
        if number > 4:
            raise GateError("no disk")
        return {"loop": 1}

    with pytest.raises(GateError, match="no disk"):
        judged(tmp_path, always(loop=1), breaks)
    assert [len(load(tmp_path / name).records) for name in ("old.jsonl", "new.jsonl")] == [5, 5]
