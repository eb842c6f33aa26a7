"""How quiet this machine is for measuring: what was found, and the remedy where it is not as it should be."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ...common.cores import usable_cores
from ...results.timing.disturbance.core_time import TakenTime
from ...results.timing.disturbance.watch import TAKEN, Watch

WATCHED_S: Final = 1.0  # long enough for shares of a core in steps of 1 %
WORK_TRIES: Final = 40
WORK_SPREAD: Final = 0.05  # between the fastest tenth and the slowest: quiet machines stay under 2 %
LARGE_CACHE: Final = 64 * 2**20  # filling one that is larger takes longer than most calls that are measured

_CPUS: Final = Path("/sys/devices/system/cpu")
_GROUP: Final = Path("/sys/fs/cgroup")
_PROCESSES: Final = Path("/proc")


@dataclass(frozen=True)
class MachineFinding:
    """One thing that was looked at, in one line; a ``remedy`` makes it a fault."""

    name: str
    found: str
    remedy: str = ""


def findings() -> list[MachineFinding]:
    """Look at everything; it takes about a second and a half."""
    cores = usable_cores()
    return [
        watched(Watch()),
        *others(TakenTime(), time.sleep, len(cores)),
        fixed_work(time.perf_counter),
        load(os.getloadavg()[0], len(cores)),
        governor(cores, _CPUS),
        shared_cores(cores, _CPUS),
        quota(len(cores), _GROUP),
        cache(),
        other_runs(_PROCESSES),
    ]


def watched(watch: Watch) -> MachineFinding:
    """Say whether samples can be watched here."""
    if not watch.unread:
        return MachineFinding("samples", "watched: those during which others use the cores are left out")
    return MachineFinding(
        "samples", f"not watched: {watch.unread}", "compare only runs made with nothing else running, and repeat them"
    )


def others(taken: TakenTime, sleep: Callable[[float], object], cores: int) -> list[MachineFinding]:
    """Watch for a while what other processes and the hypervisor take, while this process does nothing."""
    if taken.unread:
        return [MachineFinding("other processes", f"not known: {taken.unread}")]
    sleep(WATCHED_S)
    taken.update()
    now = taken.lately()
    unit = f"of one core, of {cores}"
    return [
        MachineFinding(
            "other processes",
            f"take {now.by_others:.0%} {unit}",
            "end them, or give them other cores with taskset" if now.by_others >= TAKEN else "",
        ),
        MachineFinding(
            "steal",
            f"the hypervisor takes {now.by_hypervisor:.0%} {unit}",
            "use a machine with cores of its own (dedicated or bare metal)" if now.by_hypervisor >= TAKEN else "",
        ),
    ]


def fixed_work(now: Callable[[], float]) -> MachineFinding:
    """Time the same piece of work again and again; it should always take as long."""
    took = []
    for _ in range(WORK_TRIES):
        start = now()
        sum(number * number for number in range(50_000))
        took.append(now() - start)
    tenths = statistics.quantiles(took, n=10)
    spread = tenths[-1] / tenths[0] - 1
    remedy = "see what else runs with top, fix the clock frequency, or use a machine that is not shared"
    return MachineFinding(
        "fixed work",
        f"takes {1e3 * statistics.median(took):.3g} ms, the slowest tenth {spread:.1%} more than the fastest",
        remedy if spread > WORK_SPREAD else "",
    )


def load(average: float, cores: int) -> MachineFinding:
    """Look at the mean number of processes that wanted a core in the last minute."""
    remedy = "end what uses the processor, see top; the figure falls within a minute" if average > cores / 2 else ""
    return MachineFinding("load", f"{average:.1f} in the last minute, with {cores} cores", remedy)


def governor(cores: Sequence[int], cpus: Path) -> MachineFinding:
    """Look at the rule by which the system chooses the clock frequency."""
    files = [cpus / f"cpu{core}" / "cpufreq" / "scaling_governor" for core in cores]
    found = sorted({file.read_text().strip() for file in files if file.exists()})
    if not found:
        return MachineFinding("governor", "the system does not tell; a virtual machine's host decides")
    remedy = "" if found == ["performance"] else "cpupower frequency-set -g performance"
    return MachineFinding("governor", ", ".join(found), remedy)


def shared_cores(cores: Sequence[int], cpus: Path) -> MachineFinding:
    """Look for usable cores that are threads of one physical core."""
    siblings = set()
    for core in cores:
        file = cpus / f"cpu{core}" / "topology" / "thread_siblings_list"
        siblings.add(file.read_text().strip() if file.exists() else str(core))
    if len(siblings) == len(cores):
        return MachineFinding("cores", f"{len(cores)}, each a physical one as far as the system tells")
    first = ",".join(sorted((one.replace("-", ",").partition(",")[0] for one in siblings), key=int))
    return MachineFinding(
        "cores",
        f"{len(cores)} are threads of {len(siblings)} physical ones",
        f"use one thread of each: taskset -c {first} moebench …",
    )


def quota(cores: int, group: Path) -> MachineFinding:
    """Look for a control group's limit on the time of cores, which stops a process in the middle of a call."""
    limit = None
    if (of_second := group / "cpu.max").exists() and (text := of_second.read_text().split())[0] != "max":
        limit = int(text[0]) / int(text[1])
    elif (first := group / "cpu" / "cpu.cfs_quota_us").exists() and int(first.read_text()) > 0:
        limit = int(first.read_text()) / int((group / "cpu" / "cpu.cfs_period_us").read_text())
    if limit is None:
        return MachineFinding("quota", "none that this process can see")
    remedy = f"give the container whole cores (--cpuset-cpus), or use taskset with {max(1, int(limit))} of them"
    return MachineFinding("quota", f"time of {limit:g} cores, with {cores} usable", remedy if limit < cores else "")


def cache() -> MachineFinding:
    """Tell the size of the last-level caches, which cold inputs must not be in."""
    from ...results.timing.cpu_cache import last_level_cache_bytes

    size = last_level_cache_bytes()
    large = ", large: making inputs cold takes a good part of a run" if size > LARGE_CACHE else ""
    return MachineFinding("last-level cache", f"{size / 2**20:.0f} MiB{large}")


def other_runs(processes: Path) -> MachineFinding:
    """Look for other commands of moebench on this machine, and their workers."""
    found = []
    for folder in processes.iterdir():
        if folder.name.isdigit() and int(folder.name) not in (os.getpid(), os.getppid()):
            try:
                words = (folder / "cmdline").read_bytes().split(b"\0")
            except OSError:  # it has just ended, or is another user's
                continue
            if any(word.rpartition(b"/")[2] == b"moebench" for word in words[:3]):
                found.append(int(folder.name))
    if not found:
        return MachineFinding("other moebench runs", "none")
    remedy = "let them end first; to compare two checkouts use `moebench gate`, which takes turns"
    return MachineFinding("other moebench runs", f"processes {', '.join(map(str, sorted(found)))}", remedy)
