"""The device that advice is for: this machine's, one of the records, or a GPU of the hardware table."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import torch

from ...common.errors import UserError
from ...common.names import unknown
from ...kernels.hardware.device_limits import assuming
from ...kernels.hardware.device_names import device_name
from ...kernels.hardware.gpus import DATA_SHEETS, GPUS, HARDWARE, DataSheet, data_sheet_of, gpu_named, target_of
from ...results.record import Record
from ...results.record.environment import fingerprint

CPU = torch.device("cpu")


class InvalidDevice(UserError, ValueError):
    """A device that advice cannot be for; the message names it and the remedy."""


@dataclass(frozen=True, kw_only=True)
class AdvisedDevice:
    """A device by the name that records have for it, or that of its data sheet.

    ``here`` says whether it is this machine's. ``target`` is the compiler target whose limits hold for it and ``sheet``
    the data sheet with its rates, None for a CPU and for an unknown GPU.
    """

    name: str
    kind: Literal["cpu", "cuda"]
    here: bool
    memory_bytes: int | None
    target: str | None = None
    sheet: DataSheet | None = None

    @property
    def torch(self) -> torch.device:
        """The device to ask kernels about, within `assumed`; a GPU that is not here has no tensors."""
        if self.kind == "cpu":
            return CPU
        return torch.device("cuda" if self.here else "meta")

    @contextmanager
    def assumed(self) -> Iterator[None]:
        """Use the limits of the device as long as the context lasts."""
        if self.kind == "cpu" or self.here or self.target is None:
            yield
        else:
            with assuming(HARDWARE[self.target]):
                yield


def advised_device(word: str | None, records: Sequence[Record]) -> AdvisedDevice:
    """Return the device that a word names: cpu or cuda, the name of one in the records, or a GPU of the table.

    A part of a name is enough where it is whole words. Without a word it is the only device of the records, else this
    machine's.

    Raises:
        InvalidDevice: when it is not here, or the word fits several.
        UnknownName: when nothing has that name.
    """
    recorded = list(dict.fromkeys(record.environment.device for record in records))
    kind = word.strip().casefold() if word else ""
    if kind in ("cpu", "cuda"):
        return _here("cuda" if kind == "cuda" else "cpu")
    if word is None:
        if len(recorded) > 1:
            listed = " or ".join(f"--device {name!r}" for name in recorded)
            raise InvalidDevice(f"the records are of {len(recorded)} devices: give {listed}")
        return _of_records(recorded[0], records) if recorded else _here(_best())
    named = [name for name in recorded if _is_named(word, name)]
    exact = [name for name in named if name.casefold() == word.casefold()]
    named = exact or named
    if len(named) > 1:
        raise InvalidDevice(f"--device {word} fits {' and '.join(map(repr, named))}: give the whole name")
    if named:
        return _of_records(named[0], records)
    kinds: tuple[Literal["cuda", "cpu"], ...] = ("cuda", "cpu")
    for kind in kinds:
        if _exists(kind) and _is_named(word, device_name(torch.device(kind))):
            return _here(kind)
    return _of_table(word, recorded)


def _exists(kind: str) -> bool:
    return kind == "cpu" or torch.cuda.is_available()


def _best() -> Literal["cpu", "cuda"]:
    return "cuda" if _exists("cuda") else "cpu"


def _here(kind: Literal["cpu", "cuda"]) -> AdvisedDevice:
    if not _exists(kind):
        raise InvalidDevice("--device cuda: torch sees no GPU here: name one, such as --device H100")
    name = device_name(torch.device(kind))
    memory = fingerprint(kind, device=name, driver=None).memory_bytes
    return AdvisedDevice(
        name=name,
        kind=kind,
        here=True,
        memory_bytes=memory,
        target=target_of(name) if kind == "cuda" else None,
        sheet=data_sheet_of(name) if kind == "cuda" else None,
    )


def _of_records(name: str, records: Sequence[Record]) -> AdvisedDevice:
    newest = max(
        (record for record in records if record.environment.device == name), key=lambda record: record.time
    ).environment
    kind = newest.device_type
    return AdvisedDevice(
        name=name,
        kind=kind,
        here=_exists(kind) and device_name(torch.device(kind)) == name,
        memory_bytes=newest.memory_bytes,
        target=target_of(name) if kind == "cuda" else None,
        sheet=data_sheet_of(name) if kind == "cuda" else None,
    )


def _of_table(word: str, recorded: Sequence[str]) -> AdvisedDevice:
    sheet = DATA_SHEETS.get(word) or data_sheet_of(word.upper())
    if sheet is None and gpu_named(word.upper()) is not None:
        raise InvalidDevice(
            f"--device {word}: the table of hardware has no data sheet of it: give --records of it, or one of "
            f"{', '.join(_with_sheets())}"
        )
    if sheet is None:
        raise unknown("device", word, [*recorded, "cpu", "cuda", *_with_sheets()])
    target = word if word in DATA_SHEETS else target_of(word.upper())
    name = sheet.name if word in DATA_SHEETS else f"{word.upper()} (data sheet of {sheet.name})"
    return AdvisedDevice(
        name=name, kind="cuda", here=False, memory_bytes=sheet.memory_bytes, target=target, sheet=sheet
    )


def _with_sheets() -> list[str]:
    """Return the names of the GPUs that there are data sheets of."""
    names = [name for entry in GPUS for name in entry.names.split("|")]
    return [name for name in names if data_sheet_of(name) is not None]


def _is_named(word: str, name: str) -> bool:
    """Return whether a name is a word or has it as whole words; upper and lower case are the same."""
    return bool(word.strip()) and bool(
        re.search(rf"(?<![A-Za-z0-9]){re.escape(word.strip())}(?![A-Za-z0-9])", name, re.IGNORECASE)
    )
