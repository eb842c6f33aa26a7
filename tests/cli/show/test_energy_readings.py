"""The line of `moebench doctor` about energy: for a GPU and a CPU, with the remedy where nothing can be read."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import torch

from moebench.cli.show import energy_readings
from moebench.cli.show.energy_readings import energy_of, energy_of_cpu
from moebench.results.record import Clocks
from moebench.results.timing.nvml import NoTelemetry


def package(powercap: Path, number: int = 0, energy_uj: str = "1") -> Path:
    folder = powercap / f"intel-rapl:{number}"
    folder.mkdir(parents=True)
    (folder / "name").write_text(f"package-{number}\n")
    (folder / "max_energy_range_uj").write_text("1000000\n")
    (folder / "energy_uj").write_text(f"{energy_uj}\n")
    return folder / "energy_uj"


def test_a_machine_without_packages_says_so(tmp_path: Path) -> None:
    for powercap in (tmp_path, tmp_path / "missing"):
        found = energy_of_cpu(powercap)
        assert found.found == f"not read: {powercap} lists no processor package"
        assert "virtual machine" in found.remedy


def test_a_counter_that_may_not_be_read_is_named_with_the_permission_to_give(tmp_path: Path) -> None:
    package(tmp_path)
    counter = package(tmp_path, 1)
    counter.unlink()
    counter.mkdir()  # which no user can read as a file, root included
    found = energy_of_cpu(tmp_path)
    assert found.found == f"not read: {counter}: Is a directory"
    assert found.remedy.startswith(f"sudo chmod a+r {tmp_path}/intel-rapl:*/energy_uj")


def test_a_counter_that_stands_still_is_not_read(tmp_path: Path) -> None:
    package(tmp_path)
    assert "stand still" in energy_of_cpu(tmp_path).found
    package(tmp_path, 1, energy_uj="much")
    assert "stand still" in energy_of_cpu(tmp_path).found


def test_counters_that_count_are_read_and_have_no_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counter = package(tmp_path)
    package(tmp_path, 1)

    def tick(_: float) -> None:
        counter.write_text(f"{int(counter.read_text()) + 9}\n")

    monkeypatch.setattr(time, "sleep", tick)
    found = energy_of_cpu(tmp_path)
    assert (found.found, found.remedy) == ("read: RAPL counts what 2 processor packages use", "")


class Counter:
    """Telemetry of a GPU that counts these joules, or why it does not."""

    def __init__(self, joules: float | None, unread: str = "") -> None:
        self._joules, self._unread = joules, unread

    def energy_j(self) -> float | None:
        return self._joules

    def state(self, energy_j: float | None) -> Clocks:
        return Clocks(energy_j=energy_j, unread=self._unread)


@pytest.mark.parametrize(
    ("counter", "found", "remedy"),
    [
        (Counter(5.0), "read: NVML counts what the GPU uses", ""),
        (Counter(None), "not read: this GPU has no counter of energy", "from Volta on"),
        (Counter(None, "nvmlX failed (No: way)"), "not read: nvmlX failed (No: way)", "from Volta on"),
        (
            NoTelemetry("pynvml is not installed; pip install 'moebench[gpu]'"),
            "pip install 'moebench[gpu]'",
            "mend that",
        ),
    ],
)
def test_a_gpu_is_asked_through_nvml(
    monkeypatch: pytest.MonkeyPatch, counter: Counter | NoTelemetry, found: str, remedy: str
) -> None:
    monkeypatch.setattr(energy_readings, "connect", lambda _: counter)
    said = energy_of(torch.device("cuda", 0))
    assert found in said.found
    assert bool(remedy) == bool(said.remedy)
    assert remedy in said.remedy
