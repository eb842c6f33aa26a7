"""Energy of a CPU's packages, from powercap folders made for the tests."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from moebench.results.timing.energy.rapl import RaplEnergy

RANGE_UJ = 1_000_000


def zone(powercap: Path, place: str, name: str, energy_uj: str = "0") -> Path:
    folder = powercap / place
    folder.mkdir(parents=True)
    (folder / "name").write_text(f"{name}\n")
    (folder / "max_energy_range_uj").write_text(f"{RANGE_UJ}\n")
    (folder / "energy_uj").write_text(f"{energy_uj}\n")
    return folder / "energy_uj"


@pytest.fixture
def counters(tmp_path: Path) -> list[Path]:
    """Two packages, among other zones that are parts of them or hold them."""
    packages = [zone(tmp_path, "intel-rapl:0", "package-0", "100"), zone(tmp_path, "intel-rapl:1", "package-1", "7")]
    zone(tmp_path, "intel-rapl:0:0", "core", "5000")
    zone(tmp_path, "intel-rapl:2", "psys", "5000")
    zone(tmp_path, "intel-rapl-mmio:0", "package-0", "5000")
    return packages


def counting(counters: list[Path], powercap: Path, monkeypatch: pytest.MonkeyPatch) -> RaplEnergy:
    """Return the energy of packages that used 10 µJ while it was looked whether they move."""
    monkeypatch.setattr(time, "sleep", lambda _: add(counters[0], 10))
    found = RaplEnergy.found(powercap)
    assert found is not None
    return found


def add(counter: Path, uj: int) -> None:
    counter.write_text(f"{(int(counter.read_text()) + uj) % RANGE_UJ}\n")


def test_packages_are_added_up_and_no_part_of_them_counts_twice(
    counters: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    energy = counting(counters, tmp_path, monkeypatch)
    before = energy.energy_j() or 0.0
    assert before == pytest.approx(10e-6)
    add(counters[0], 2_000)
    add(counters[1], 30)
    assert energy.energy_j() == pytest.approx(before + 2_030e-6)


def test_a_counter_that_begins_again_goes_on(
    counters: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    energy = counting(counters, tmp_path, monkeypatch)
    before = energy.energy_j() or 0.0
    for _ in range(5):
        add(counters[1], 600_000)
        before += 0.6
        assert energy.energy_j() == pytest.approx(before)


def test_a_reading_that_fails_is_none_and_the_next_one_counts_on(
    counters: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    energy = counting(counters, tmp_path, monkeypatch)
    before = energy.energy_j()
    for content in ("", "many", "-3"):
        kept = counters[1].read_text()
        counters[1].write_text(content)
        assert energy.energy_j() is None
        counters[1].write_text(kept)
        assert energy.energy_j() == before  # what was used meanwhile is not known
    (tmp_path / "intel-rapl:1" / "max_energy_range_uj").unlink()
    counters[1].write_text("1")
    assert energy.energy_j() is None


def test_counters_that_may_not_be_read_are_none(counters: list[Path], tmp_path: Path) -> None:
    """A folder in their place cannot be read as a file, not even by root."""
    counters[1].unlink()
    counters[1].mkdir()
    assert RaplEnergy.found(tmp_path) is None


@pytest.mark.usefixtures("counters")
def test_counters_that_do_not_move_are_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr(time, "sleep", waits.append)
    assert RaplEnergy.found(tmp_path) is None
    assert sum(waits) < 0.1


@pytest.mark.parametrize("place", [".", "nowhere"])
def test_a_machine_without_counters_has_none_and_nobody_waits(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "sleep", lambda _: pytest.fail("waited"))
    assert RaplEnergy.found(tmp_path / place) is None
