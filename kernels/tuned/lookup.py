"""Look-up in tuned tables: the folder that holds them, and the configuration that they have for a problem."""

from __future__ import annotations

import dataclasses
import logging
import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Final, NamedTuple

import torch

from ...common.packages import installed_version
from ..catalog import KERNELS
from ..config import Config
from ..hardware.device_names import device_name, driver
from ..problem import Problem
from ..problem.balance.sorted_shares import TOKENS, expected_shares, nearest_load
from ..problem.trace import PREFIX, Trace, label
from ..problem.traces.trace_format import InvalidTrace
from .source_hash import source_hash
from .table_reader import parse_table
from .tuned_table import SHAPE, Bucket, InvalidTable, TableEntry, TunedTable

FOLDER: Final = "MOEBENCH_TUNED"
STALE: Final = "MOEBENCH_TUNED_STALE"
MAX_BYTES: Final = 8 << 20  # of a file: thousands of buckets, read in a tenth of a second
FILES: Final = 4096  # files whose content is kept in memory

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Found:
    """A configuration of the kernel's space that can be built, the reason for it, and the seconds it should take.

    ``interpolated``: it was measured for fewer and for more tokens, not for these. ``instead``: the tuned load whose
    seconds these are, which stands for the problem's; "" where none has to.
    """

    config: Config
    why: str
    seconds: float
    interpolated: bool = False
    instead: str = ""


@dataclass(frozen=True)
class NotCovered:
    """The answer where no table covers the problem, with the reason."""

    reason: str


def stale_wanted() -> bool:
    """Return whether the user asks for tables of other versions or sources too: MOEBENCH_TUNED_STALE=1."""
    return os.environ.get(STALE) == "1"


def look_up(
    problem: Problem, kernel_name: str, device: torch.device, *, stale: bool = False, nearest: bool = False
) -> Found | NotCovered:
    """Return what the tables of `folder` have for a problem, a kernel that supports it, and a device.

    A table must be of this device, driver, torch and Triton and of the kernel's present sources; with ``stale`` only of
    this device. The shape must be equal except for the router, which no implementation sees. The load must be equal
    too, unless the entry is robust. With ``nearest`` a load that no entry has is replaced by the most similar one that
    an entry has (`nearest_load`); one that was recorded is compared where its file lies in `folder`.

    Raises:
        UnknownName: when no kernel has that name.
    """
    return _first_found(
        _covering_here(problem, kernel_name, device, stale, nearest),
        lambda entry: _answer_here(entry, problem, kernel_name, device),
    )


def look_up_every_batch(
    problem: Problem,
    kernel_name: str,
    device: torch.device,
    own: Callable[[Config], Config | None],
    *,
    stale: bool = False,
) -> Found | NotCovered:
    """Return the one configuration that tables have for all numbers of tokens; `Found.seconds` are its worst time.

    A table must be valid as for `look_up`. ``own`` returns the kernel's own configuration for one in a table, None
    for one that may not be used.
    """
    return _first_found(
        _covering_here(problem, kernel_name, device, stale), lambda entry: answer_every_batch(entry, own)
    )


def answer_every_batch(entry: TableEntry, own: Callable[[Config], Config | None]) -> Found | NotCovered:
    """Return the configuration, measured in every bucket, that loses least where it loses most to a bucket's fastest.

    ``own`` is as in `look_up_every_batch`.
    """
    fastest = [min(ns for ns in bucket.median_ns if ns is not None) for bucket in entry.buckets]
    worst: list[tuple[float, int]] = []
    for number in range(len(entry.configs)):
        times = [bucket.ns(number) for bucket in entry.buckets]
        if None not in times:
            worst.append((max(ns / best for ns, best in zip(times, fastest, strict=True) if ns is not None), number))
    for loss, number in sorted(worst):
        if (config := own(entry.configs[number])) is not None:
            first, last = entry.buckets[0], entry.buckets[-1]
            why = f"tuned, at most {100 * (loss - 1):.2g} % slower than the fastest for T = {first.T} to {last.T}"
            return Found(config=config, why=why, seconds=max(one.median_ns[number] or 0 for one in entry.buckets) / 1e9)
    return NotCovered("no configuration that may be used was measured for all numbers of tokens")


class _Covering(NamedTuple):
    """An entry for a problem, what makes its table stale, and the load that stands for the problem's, if another."""

    entry: TableEntry
    stale: list[str]
    instead: str


def _covering_here(
    problem: Problem, kernel_name: str, device: torch.device, stale: bool, nearest: bool = False
) -> list[_Covering] | NotCovered:
    mine = [table for table in tables() if table.kernel == kernel_name]
    if not mine:
        return NotCovered(f"there is no tuned table of {kernel_name}")
    return _covering(mine, problem, kernel_name, here(device), stale, nearest)


def _first_found(
    covering: list[_Covering] | NotCovered, ask: Callable[[TableEntry], Found | NotCovered]
) -> Found | NotCovered:
    """Return the first configuration that an entry has, or why the best match has none."""
    if isinstance(covering, NotCovered):
        return covering
    answers = [(one, ask(one.entry)) for one in covering]
    for one, found in answers:
        if isinstance(found, Found):
            instead = f"; for load {one.instead}, the nearest that is tuned" if one.instead else ""
            old = f"; stale ({'; '.join(one.stale)})" if one.stale else ""
            return dataclasses.replace(found, why=f"{found.why}{instead}{old}", instead=one.instead)
    return answers[0][1]


def tuned_kernels(device: torch.device) -> list[str]:
    """Return the kernels with tables for a device, stale ones included; none where the device does not exist."""
    if device.type == "cuda" and not torch.cuda.is_available():
        return []
    name = device_name(device)
    return sorted({table.kernel for table in tables() if table.environment["device"] == name} & set(KERNELS.names()))


def tuned_tokens(device: torch.device) -> frozenset[int]:
    """Return the numbers of tokens that tables for a device were measured with, stale ones included."""
    mine = {*tuned_kernels(device)}
    found = (table for table in tables() if table.kernel in mine)
    return frozenset(bucket.T for table in found for entry in table.entries for bucket in entry.buckets)


def _covering(
    mine: list[TunedTable],
    problem: Problem,
    kernel_name: str,
    here: Mapping[str, str | None],
    stale: bool,
    nearest: bool,
) -> list[_Covering] | NotCovered:
    """Return the entries for a problem, the best match first."""
    near = [table for table in mine if table.environment["device"] == here["device"]]
    if not near:
        others = ", ".join(sorted({repr(table.environment["device"]) for table in mine}))
        return NotCovered(f"{kernel_name} is tuned for {others}, not for {here['device']!r}")
    shaped = [(table, entry) for table in near for entry in table.entries if _same_shape(entry, problem)]
    if not shaped:
        return NotCovered(f"{kernel_name} is not tuned for this shape")
    source = source_hash(kernel_name)
    aged = [(table.differs(source, here), entry) for table, entry in shaped]
    usable = [(old, entry) for old, entry in aged if stale or not old]
    if not usable:
        old = "; ".join(aged[0][0])
        return NotCovered(f"{kernel_name} was tuned for others than are here ({old}): tune again, or set {STALE}=1")
    wanted, tuned = label(problem.load), sorted({load for _, entry in usable for load in entry.loads})
    if nearest and wanted not in tuned:
        wanted = nearest_tuned(problem, tuned) or wanted
    instead = wanted if wanted != label(problem.load) else ""
    loaded = [_Covering(entry, old, instead) for old, entry in usable if entry.robust or entry.loads == (wanted,)]
    if not loaded:
        return NotCovered(f"{kernel_name} is tuned for load {', '.join(tuned)}, not for {wanted} and not robustly")
    # Tables are newest first, and sorting keeps that order among equals.
    return sorted(loaded, key=lambda one: (bool(one.stale), one.entry.robust, wanted not in one.entry.loads))


def nearest_tuned(problem: Problem, tuned: Sequence[str]) -> str | None:
    """Return the most similar load of those in tables; None where none of them can be compared."""
    known: dict[str, str] = {}
    for load in tuned:
        try:
            known[problem.replace(load=_with_folder(load)).load] = load
        except ValueError as error:
            _log.info("load %r of a tuned table cannot be compared with %s: %s", load, problem.load, error)
    if not known:
        return None
    shares_E = expected_shares(problem.load, E=problem.E, K=problem.K, tokens=TOKENS)
    return known[nearest_load(shares_E, list(known), K=problem.K, tokens=TOKENS)]


def _with_folder(load: str) -> str:
    """Return a load of a table as a problem has it: the file of a trace is one in `folder`, whatever its name says.

    Raises:
        InvalidTrace: for a trace that is not there.
    """
    if not load.startswith(PREFIX):
        return load
    trace, where = Trace.parse(load), folder()
    if where is None or where / trace.path not in where.iterdir():
        raise InvalidTrace(f"{trace.path!r} is not in the folder of the tables: copy it there")
    return str(dataclasses.replace(trace, path=str(where.resolve() / trace.path)))


def answer(entry: TableEntry, T: int, default: Config, own: Callable[[Config], Config | None]) -> Found | NotCovered:
    """Return what an entry has for ``T`` tokens.

    A bucket answers with its choice. Between two buckets it is the configuration that both chose, the ``default`` for
    ``T`` where both kept theirs, and otherwise the fastest of those measured in both; times are interpolated linearly
    in the logarithms of time and of rows per expert. ``own`` returns the kernel's own configuration for one in the
    table, None where its space has none.
    """
    fewer = [bucket for bucket in entry.buckets if bucket.T <= T]
    more = [bucket for bucket in entry.buckets if bucket.T >= T]
    if not fewer or not more:
        first, last = entry.buckets[0].T, entry.buckets[-1].T
        return NotCovered(
            f"T = {T} ({entry.rows(T):g} rows per expert) is outside the tuned T = {first} to {last} "
            f"({entry.rows(first):g} to {entry.rows(last):g} rows per expert)"
        )
    below, above = fewer[-1], more[0]
    if below is above:
        config = own(entry.configs[below.chosen])
        if config is None:
            return NotCovered(f"the configuration chosen for T = {T} is not in the kernel's space")
        why = "tuned" if below.verdict == "tuned" else "tuned, the default was kept,"
        return Found(config=config, why=f"{why} at T = {T}", seconds=_seconds(below, above, T, below.chosen))
    between = f"between T = {below.T} and T = {above.T}"
    if below.verdict == above.verdict == "tie":
        seconds = _seconds(below, above, T, below.chosen, above.chosen)
        why = f"{between}, where the default was kept"
        return Found(config=default, why=why, seconds=seconds, interpolated=True)
    shared = [number for number in range(len(entry.configs)) if below.ns(number) and above.ns(number)]
    if below.chosen == above.chosen:
        shared = [below.chosen]
    for seconds, number in sorted((_seconds(below, above, T, number), number) for number in shared):
        config = own(entry.configs[number])
        if config is not None:
            return Found(config=config, why=between, seconds=seconds, interpolated=True)
    return NotCovered(f"{between}: no configuration of the kernel's space was measured at both")


def _seconds(below: Bucket, above: Bucket, T: int, number: int, number_above: int | None = None) -> float:
    """Return the interpolated time of a configuration, or of ``number`` in the one bucket and another in the other."""
    low_ns, high_ns = below.ns(number), above.ns(number if number_above is None else number_above)
    if low_ns is None or high_ns is None:
        raise ValueError(f"configuration {number} is not measured at T = {below.T} and T = {above.T}")
    if below.T == above.T:
        return low_ns / 1e9
    # Rows per expert are proportional to tokens, so that either gives the same share.
    share = math.log(T / below.T) / math.log(above.T / below.T)
    return math.exp((1 - share) * math.log(low_ns) + share * math.log(high_ns)) / 1e9


def _answer_here(entry: TableEntry, problem: Problem, kernel_name: str, device: torch.device) -> Found | NotCovered:
    kernel = KERNELS.load(kernel_name)
    space = kernel.space(problem, device)

    def own(config: Config) -> Config | None:
        """Return the equal object of the space, so that nothing from a file is passed on."""
        same = next((mine for mine in space if mine == config), None)
        return same if same is not None and kernel.valid(problem, same, device) else None

    default = next((config for config in space if kernel.valid(problem, config, device)), None)
    if default is None:
        return NotCovered(f"{kernel_name} has no valid configuration")
    return answer(entry, problem.T, default, own)


def _same_shape(entry: TableEntry, problem: Problem) -> bool:
    return all(getattr(entry.shape, name) == getattr(problem, name) for name in SHAPE if name != "router")


@cache
def here(device: torch.device) -> Mapping[str, str | None]:
    """Return what a table must have in its environment to be valid on a device of this machine."""
    return {
        "device": device_name(device),
        "driver": driver(device),
        "torch": installed_version("torch"),
        "triton": installed_version("triton"),
    }


def folder() -> Path | None:
    """Return the folder of the tables: MOEBENCH_TUNED, else moebench/tuned in the user's data; None without a home."""
    if named := os.environ.get(FOLDER):
        return Path(named)
    data = os.environ.get("XDG_DATA_HOME", "")
    try:
        base = Path(data) if Path(data).is_absolute() else Path.home() / ".local" / "share"
    except RuntimeError:
        return None
    return base / "moebench" / "tuned"


def tables() -> list[TunedTable]:
    """Return all tables of `folder`, the newest first. A file is read again only after it has changed.

    A file that is no table is left out, and a warning names it once.
    """
    where = folder()
    try:
        entries = sorted(os.scandir(where), key=lambda one: one.name) if where is not None else []
    except OSError:
        return []
    found = [_unchanged(entry) for entry in entries if entry.name.endswith(".json")]
    return sorted((table for table in found if table is not None), key=lambda table: table.measured[1], reverse=True)


def _unchanged(entry: os.DirEntry[str]) -> TunedTable | None:
    try:
        state = entry.stat()
    except OSError:
        state = None
    return _read(entry.path, (state.st_ino, state.st_mtime_ns, state.st_size) if state else None)


@lru_cache(maxsize=FILES)
def _read(path: str, state: tuple[int, int, int] | None) -> TunedTable | None:  # noqa: ARG001  # a changed file is another
    try:
        return read(Path(path))
    except InvalidTable as error:
        _log.warning("%r is left out of the tuned tables: %s", path, error)
        return None


def read(path: Path) -> TunedTable:
    """Read the table in a file.

    Raises:
        InvalidTable: when this moebench cannot read it.
    """
    try:
        if not path.is_file():
            raise InvalidTable("it is not a file")
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise InvalidTable(f"it cannot be read: {error.strerror}") from None
    if len(content) > MAX_BYTES:
        raise InvalidTable(f"it is larger than {MAX_BYTES >> 20} MiB")
    return parse_table(content)
