"""How quiet a machine is: every fault has a remedy, and what is as it should be has none."""

from __future__ import annotations

import itertools
import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from moebench.cli.show import quietness
from moebench.cli.show.quietness import MachineFinding
from moebench.results.timing.disturbance.core_time import TakenTime


def written(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


@pytest.mark.parametrize(
    ("durations", "fault"), [([0.005], False), ([0.005] * 9 + [0.0051], False), ([0.005, 0.005, 0.006], True)]
)
def test_fixed_work_should_always_take_as_long(durations: Sequence[float], fault: bool) -> None:
    ends = itertools.accumulate(part for one in itertools.cycle(durations) for part in (0.0, one))
    assert bool(quietness.fixed_work(lambda: next(ends)).remedy) is fault


def test_work_that_others_do_is_named_with_its_share(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0]
    stat = tmp_path / "stat"
    stat.write_text("cpu0 1 0 0 9 0 0 0 0\n")
    monkeypatch.setattr("time.process_time_ns", lambda: 0)
    taken = TakenTime(now_ns=lambda: now[0], stat=stat, cores=[0])

    def pass_a_second(_: float) -> None:
        now[0] += 1_000_000_000
        stat.write_text("cpu0 51 0 0 9 0 0 0 2\n")

    others, steal = quietness.others(taken, pass_a_second, 1)
    assert (others.found, steal.found) == ("take 50% of one core, of 1", "the hypervisor takes 2% of one core, of 1")
    assert "taskset" in others.remedy
    assert not steal.remedy


@pytest.mark.parametrize(("governors", "fault"), [(["performance"] * 2, False), (["powersave", "performance"], True)])
def test_governor(tmp_path: Path, governors: list[str], fault: bool) -> None:
    for core, name in enumerate(governors):
        written(tmp_path / f"cpu{core}" / "cpufreq" / "scaling_governor", f"{name}\n")
    assert bool(quietness.governor([0, 1], tmp_path).remedy) is fault
    assert "does not tell" in quietness.governor([7], tmp_path).found


def test_threads_of_one_core(tmp_path: Path) -> None:
    for core, siblings in enumerate(["0,2", "1,3", "0,2", "1,3"]):
        written(tmp_path / f"cpu{core}" / "topology" / "thread_siblings_list", siblings)
    assert "taskset -c 0,1 " in quietness.shared_cores([0, 1, 2, 3], tmp_path).remedy
    assert not quietness.shared_cores([0, 1], tmp_path).remedy


@pytest.mark.parametrize(
    ("files", "fault"),
    [
        ({}, False),
        ({"cpu.max": "max 100000"}, False),
        ({"cpu.max": "150000 100000"}, True),
        ({"cpu.max": "200000 100000"}, False),
        ({"cpu/cpu.cfs_quota_us": "-1"}, False),
        ({"cpu/cpu.cfs_quota_us": "50000", "cpu/cpu.cfs_period_us": "100000"}, True),
    ],
)
def test_quota(tmp_path: Path, files: dict[str, str], fault: bool) -> None:
    for name, text in files.items():
        written(tmp_path / name, text)
    assert bool(quietness.quota(2, tmp_path).remedy) is fault


def test_load_of_half_the_cores_is_too_much() -> None:
    assert quietness.load(1.1, 2).remedy
    assert not quietness.load(0.9, 2).remedy


def test_other_runs_are_found_by_their_command(tmp_path: Path) -> None:
    commands = {
        "10": "/usr/bin/python3\0/venv/bin/moebench\0run\0",
        "11": "vim\0moebench.md\0",
        str(os.getpid()): "python\0moebench\0doctor\0",
    }
    for number, command in commands.items():
        written(tmp_path / number / "cmdline", command)
    written(tmp_path / "uptime", "1")
    found = quietness.other_runs(tmp_path)
    assert (found.found, bool(found.remedy)) == ("processes 10", True)
    assert quietness.other_runs(tmp_path / "11") == MachineFinding("other moebench runs", "none")
