"""Energy counters of this machine for `moebench doctor`: whether they can be read, and the remedy where they cannot."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import torch

from ...reports.numbers import counted
from ...results.timing.energy.rapl import POWERCAP, RaplEnergy, packages_in
from ...results.timing.nvml import NoTelemetry, connect
from .quietness import MachineFinding

NAME: Final = "joules"
WITHOUT: Final = "records will have no joules"


def energy_of(device: torch.device) -> MachineFinding:
    """Say whether the energy counter of a device can be read."""
    return energy_of_gpu(device.index or 0) if device.type == "cuda" else energy_of_cpu(POWERCAP)


def energy_of_gpu(index: int) -> MachineFinding:
    """Say whether NVML counts the joules of a GPU."""
    counter = connect(index)
    if isinstance(counter, NoTelemetry):
        return MachineFinding(NAME, f"not read: {counter.reason}", f"mend that; until then {WITHOUT}")
    if counter.energy_j() is None:
        why = counter.state(energy_j=None).unread or "this GPU has no counter of energy"
        return MachineFinding(NAME, f"not read: {why}", f"use a GPU from Volta on; else {WITHOUT}")
    return MachineFinding(NAME, "read: NVML counts what the GPU uses, with its memory and board")


def energy_of_cpu(powercap: Path) -> MachineFinding:
    """Say whether RAPL counts the joules of this machine's processor packages; a few milliseconds at the most."""
    packages = packages_in(powercap)
    if not packages:
        return MachineFinding(
            NAME,
            f"not read: {powercap} lists no processor package",
            f"a virtual machine seldom has one: use the machine itself (module intel_rapl_msr); else {WITHOUT}",
        )
    for package in packages:
        try:
            (package / "energy_uj").read_bytes()
        except OSError as error:
            return MachineFinding(
                NAME,
                f"not read: {package / 'energy_uj'}: {error.strerror}",
                f"sudo chmod a+r {powercap}/intel-rapl:*/energy_uj, which lasts until the machine starts again",
            )
    if RaplEnergy.found(powercap) is None:
        return MachineFinding(
            NAME, f"not read: the counters of {powercap} stand still", f"use the machine itself; else {WITHOUT}"
        )
    return MachineFinding(NAME, f"read: RAPL counts what {counted(len(packages), 'processor package')} use")
