"""Energy of a CPU, as RAPL counts it: a counter for each processor package, in Linux's powercap folder.

Counts are of the whole package, idle cores and other processes included, and without the memory modules. Since 2020
only root may read them unless a machine's owner has decided otherwise, and a virtual machine seldom has any.
"""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Self

POWERCAP: Final = Path("/sys/class/powercap")
RAPL_TICK_MS: Final = 2.0  # the counters move every millisecond or so
TRIES: Final = 20  # of which each waits for a tick; a counter that has not moved by then counts nothing


class RaplEnergy:
    """Joules that all packages of this machine have used since the first reading.

    A counter begins again at 0 after a range of its own, which takes minutes; readings must be closer together.
    """

    def __init__(self, packages: Sequence[Path]) -> None:
        self._packages = packages
        self._last_uj: list[int | None] = [None] * len(packages)
        self._total_uj = 0

    @classmethod
    def found(cls, powercap: Path = POWERCAP) -> Self | None:
        """Return the energy of this machine's packages; None where there is none, may not be read, or does not move."""
        packages = packages_in(powercap)
        energy = cls(packages)
        return energy if packages and energy._moves() else None

    def energy_j(self) -> float | None:
        """Return the joules; None where a counter cannot be read, after which they begin anew."""
        now_uj = [_count(package / "energy_uj") for package in self._packages]
        moved_uj = [_moved(*one) for one in zip(self._packages, self._last_uj, now_uj, strict=True)]
        known_uj = [moved for moved in moved_uj if moved is not None]
        if len(known_uj) < len(moved_uj):
            self._last_uj = [None] * len(now_uj)
            return None
        self._last_uj = now_uj
        self._total_uj += sum(known_uj)
        return self._total_uj / 1e6

    def _moves(self) -> bool:
        """Return whether the counters can be read, and count something before long."""
        for _ in range(TRIES):
            if (joules := self.energy_j()) is None:
                return False
            if joules:
                return True
            time.sleep(RAPL_TICK_MS / 1e3)
        return False


def packages_in(powercap: Path = POWERCAP) -> list[Path]:
    """Return the folders of the processor packages that Linux lists, readable or not; those of their parts are none."""
    zones = (zone for zone in powercap.glob("intel-rapl:*") if re.fullmatch(r"intel-rapl:\d+", zone.name))
    return sorted(zone for zone in zones if _text(zone / "name").startswith("package"))


def _moved(package: Path, before_uj: int | None, now_uj: int | None) -> int | None:
    """Return what a package has used between two readings; None where that is not known."""
    if now_uj is None or before_uj is None:
        return None if now_uj is None else 0
    if now_uj >= before_uj:
        return now_uj - before_uj
    range_uj = _count(package / "max_energy_range_uj")
    return None if range_uj is None else now_uj - before_uj + range_uj


def _text(file: Path) -> str:
    try:
        return file.read_text().strip()
    except (OSError, UnicodeDecodeError):
        return ""


def _count(file: Path) -> int | None:
    text = _text(file)
    return int(text) if text.isascii() and text.isdigit() else None
