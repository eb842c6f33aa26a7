"""Tuned tables from the records of the tuner, and whether a table still says what its records say.

Of the stages of `rounds`, ``final`` has the finalists beside the default, which is measured twice, and gives the
verdict. ``cross`` has the default, all winners and the finalists for each number of tokens and load, and gives times
and regrets. ``held-out`` does the same for tokens that no bucket is for.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import geometric_mean, median
from typing import Final, Literal, NamedTuple

from ...common.files import write_whole
from ...kernels.config import Config
from ...kernels.problem import Problem
from ...kernels.problem.trace import label
from ...kernels.tuned.lookup import Found, NotCovered, answer, read
from ...kernels.tuned.tuned_table import (
    ROBUST_LEAST,
    VALIDITY,
    Bucket,
    InvalidTable,
    Origin,
    TableEntry,
    TunedTable,
    shape_of,
)
from ...results.record import Record, Stage
from ...results.record.store import StoreError, load
from ...results.stats import Interval, ratio
from ..search.selection import LEAST, Samples, beats, decide, noise
from ..search.stages import SUITE, distinct

LONGEST_NAME: Final = 120  # characters of a file's name before its ending: file systems take 255

Word = str
"""A configuration as one word."""


class TablePlace(NamedTuple):
    """Where configurations compete."""

    shape: Problem
    T: int
    load: str


@dataclass(frozen=True)
class Derived:
    """Tables, and a sentence for everything that did not get into one."""

    tables: tuple[TunedTable, ...]
    left_out: tuple[str, ...]


@dataclass(frozen=True)
class HeldOut:
    """What the look-up is worth for tokens without a bucket.

    ``regret`` is the time of the configuration found over the fastest measured there − 1; None where there is none,
    and ``why`` says why.
    """

    kernel: str
    place: TablePlace
    config: Config | None
    regret: float | None
    why: str


@dataclass(frozen=True)
class TimedConfig:
    """A configuration's time in nanoseconds, and the samples that it and the default of its batch have."""

    ns: float
    samples: Samples
    beside: Samples


@dataclass
class Contest:
    """All that was compared at one place: the records of each batch, in order."""

    batches: dict[tuple[int, str], list[Record]] = field(default_factory=lambda: defaultdict(list))

    @property
    def records(self) -> list[Record]:
        return [record for batch in self.batches.values() for record in batch]

    def of(self, *stages: Stage) -> list[list[Record]]:
        """The batches of some stages."""
        return [batch for stage in stages for batch in self.batches.values() if batch[0].point.stage == stage]

    def default(self) -> Word | None:
        """What was measured twice in the last comparison, or else came first; None where nothing was compared."""
        for batch in reversed(self.of("cross", "held-out", "final")):
            word, times = Counter(_word(record.config) for record in batch).most_common(1)[0]
            return word if times > 1 else _word(batch[0].config)
        return None

    def times(self, default: Word) -> dict[Word, TimedConfig]:
        """Every configuration that passed beside the default; in several batches, its time in the last one.

        Batches are brought together by the default, which is in all of them.
        """
        stages = self.of("final", "cross", "held-out")
        batches = [passed for batch in stages if default in (passed := _passed(batch))]
        if not batches:
            return {}
        common = geometric_mean(median(passed[default][0]) for passed in batches)
        times = {}
        for passed in batches:
            beside = passed[default][0]
            for word, (samples, *_) in passed.items():
                ns = common if word == default else median(samples) / median(beside) * common
                times[word] = TimedConfig(ns, samples, beside)
        return times

    def noise(self, default: Word) -> float:
        """What the default's times beside itself differ by, at most; see `verdict.noise`."""
        pairs = [passed[default] for batch in self.of("final", "cross") if default in (passed := _passed(batch))]
        return max((noise(pair[0], pair[-1]) for pair in pairs), default=LEAST)


def derive(*runs: Sequence[Record], origins: Sequence[Origin] = ()) -> Derived:
    """One table for each kernel, its sources, device and versions; of equal measurements the later ones count.

    Each run holds the records of one file: batches of the same name in two of them were not measured together.
    """
    tables, left_out = [], []
    for group in _groups(runs).values():
        contests, reasons = _contests(group)
        entries, more = _entries(contests)
        records = [record for run in group for record in run]
        left_out += [f"{records[0].kernel}: {reason}" for reason in [*reasons, *more]]
        if entries:
            tables.append(_table(records, origins, entries))
    return Derived(tuple(tables), tuple(left_out))


def winners(records: Sequence[Record]) -> list[Config]:
    """The configurations that beat the default for some tokens and load."""
    chosen = [
        entry.configs[bucket.chosen]
        for table in derive(records).tables
        for entry in table.entries
        for bucket in entry.buckets
        if bucket.verdict == "tuned"
    ]
    return list(distinct(chosen))


def look_up_in(tables: Sequence[TunedTable], problem: Problem, configs: Sequence[Config]) -> Found | NotCovered:
    """What tables have for a problem among ``configs``, the default first, whatever they are valid for."""
    return _look_up(tables, TablePlace(shape_of(problem), problem.T, label(problem.load)), configs)


def _look_up(tables: Sequence[TunedTable], place: TablePlace, configs: Sequence[Config]) -> Found | NotCovered:
    entries = [entry for table in tables for entry in table.entries if entry.shape == place.shape]
    fitting = [entry for entry in entries if entry.robust or entry.loads == (place.load,)]
    if not fitting:
        return NotCovered(f"there is no table of this shape for load {place.load}")
    nearest = min(fitting, key=lambda entry: (entry.robust, place.load not in entry.loads))
    return answer(nearest, place.T, configs[0], lambda config: config if config in configs else None)


def derive_files(paths: Sequence[Path]) -> Derived:
    """The tables of files of records, which they name.

    Raises:
        StoreError: when there is no such file.
    """
    loaded = [load(path) for path in paths]
    derived = derive(*(one.records for one in loaded), origins=[_origin(path) for path in paths])
    return Derived(derived.tables, (*(problem for one in loaded for problem in one.problems), *derived.left_out))


def write(table: TunedTable, folder: Path) -> Path:
    """Put a table into a folder, in one step, in place of an older one of the same measurements.

    Raises:
        StoreError: when the folder cannot be written.
    """
    path = folder / file_name(table)
    try:
        write_whole(path, table.text())
    except OSError as error:
        raise StoreError(f"{path}: {error.strerror}; set MOEBENCH_TUNED to a folder that can be written") from error
    return path


def file_name(table: TunedTable) -> str:
    """Kernel and device, and a word that tells measurements apart: a run that is continued keeps its table's name."""
    words = f"{table.kernel}.{table.environment['device']}"
    facts = [table.source, table.cache, *(table.environment[name] for name in VALIDITY), table.measured[0]]
    digest = hashlib.sha256(json.dumps([facts, sorted(origin.file for origin in table.origins)]).encode()).hexdigest()
    return f"{as_file_name(words)}.{digest[:8]}.json"


def as_file_name(words: str) -> str:
    """Words from anywhere as a name that is no path, without an ending."""
    return re.sub(r"[^A-Za-z0-9._-]+", "_", words).lstrip(".")[:LONGEST_NAME]


def check(path: Path, records: Sequence[Path]) -> list[str]:
    """In what a table differs from what its records say, in sentences; empty where it says the same.

    ``records`` are files among which those that it was derived from are sought, by content.

    Raises:
        StoreError: when a file of records cannot be read.
    """
    try:
        table = read(path)
    except InvalidTable as error:
        return [f"{path}: {error}"]
    known = {_origin(record): record for record in records}
    by_content = {origin.sha256: record for origin, record in known.items()}
    missing = [origin for origin in table.origins if origin.sha256 not in by_content]
    if missing or not table.origins:
        changed = {origin.file for origin in known}
        return [
            f"{path}: {origin.file} {'has changed since' if origin.file in changed else 'is not among the records'}"
            for origin in missing
        ] or [f"{path}: it names no records"]
    loaded = [load(by_content[origin.sha256]) for origin in table.origins]
    derived = derive(*(one.records for one in loaded), origins=table.origins)
    if any(again.text() == table.text() for again in derived.tables):
        return []
    return [f"{path}: it is not what its records say; derive it again"]


def held_out(records: Sequence[Record], tables: Sequence[TunedTable]) -> list[HeldOut]:
    """The regret of looking up what was held out, for each kernel, shape, tokens and load, in the order of records.

    The table is one of the same kernel, sources, device and versions.
    """
    found = []
    for validity, group in _groups([records]).items():
        valid = [table for table in tables if _validity_of(table) == validity]
        found += [
            _regret(place, contest, valid) for place, contest in _contests(group)[0].items() if contest.of("held-out")
        ]
    return found


def _regret(place: TablePlace, contest: Contest, tables: Sequence[TunedTable]) -> HeldOut:
    kernel, default = contest.records[0].kernel, contest.default()
    times = contest.times(default) if default is not None else {}
    if default is None or default not in times:
        return HeldOut(kernel, place, None, None, "the default has no time")
    tabled = [config for table in tables for entry in table.entries for config in entry.configs]
    configs = [_configs(contest.records)[default], *tabled]
    found = _look_up(tables, place, configs)
    if isinstance(found, NotCovered):
        return HeldOut(kernel, place, None, None, found.reason)
    timed = times.get(_word(found.config))
    if timed is None:
        return HeldOut(kernel, place, found.config, None, f"{found.why}, but it has no time")
    return HeldOut(kernel, place, found.config, timed.ns / min(one.ns for one in times.values()) - 1, found.why)


def _groups(runs: Sequence[Sequence[Record]]) -> dict[tuple[str, ...], list[list[Record]]]:
    """The tuner's records of each run by what they are valid for."""
    groups: dict[tuple[str, ...], list[list[Record]]] = {}
    for number, run in enumerate(runs):
        for record in run:
            if record.point.suite == SUITE:
                groups.setdefault(_validity(record), [[] for _ in runs])[number].append(record)
    return groups


def _contests(runs: Sequence[Sequence[Record]]) -> tuple[dict[TablePlace, Contest], list[str]]:
    """Records by place and batch, and why some have none."""
    contests: dict[TablePlace, Contest] = defaultdict(Contest)
    reasons: dict[str, None] = {}
    for number, run in enumerate(runs):
        for record in run:
            try:
                # Without its load: that may be a file, which is not needed to know the shape.
                problem = Problem(**{**record.problem, "load": "uniform"})  # type: ignore[arg-type]  # checked in it
            except (TypeError, ValueError) as error:
                reasons[f"{record.key} is no problem: {error}"] = None
                continue
            place = TablePlace(shape_of(problem), problem.T, label(str(record.problem.get("load", "uniform"))))
            contests[place].batches[number, record.point.line].append(record)
    return dict(contests), list(reasons)


def _entries(contests: Mapping[TablePlace, Contest]) -> tuple[list[TableEntry], list[str]]:
    """Entries of one load each, and robust ones, by shape in order of appearance, and what has no verdict."""
    decisions: dict[tuple[Problem, tuple[str, ...]], list[Decision]] = defaultdict(list)
    left_out = []
    for shape, T in dict.fromkeys((place.shape, place.T) for place in contests):
        here = {place.load: contest for place, contest in contests.items() if (place.shape, place.T) == (shape, T)}
        compared = {load: contest for load, contest in here.items() if contest.of("final", "cross")}
        default = next((contest.default() for contest in compared.values()), None)
        if default is None:
            continue  # searched, and not yet compared; or held out
        times = {load: found for load, contest in compared.items() if default in (found := contest.times(default))}
        failed = sorted(compared.keys() - times.keys())
        left_out += [f"T = {T}, load {name}: the default failed, and nothing is compared with it" for name in failed]
        for name in times:
            if any(default in _passed(batch) for batch in here[name].of("final")):
                decisions[shape, (name,)].append(_decide(T, name, here[name], default, times))
        crossed = {name: here[name] for name in times if here[name].of("cross")}
        if len(crossed) >= ROBUST_LEAST:
            together = _decide_robustly(T, default, {name: times[name] for name in crossed}, list(crossed.values()))
            decisions[shape, tuple(sorted(crossed))].append(together)
    configs = _configs(record for contest in contests.values() for record in contest.records)
    return [_entry(shape, loads, found, configs) for (shape, loads), found in decisions.items()], left_out


@dataclass(frozen=True)
class Decision:
    """A bucket whose configurations are words yet."""

    T: int
    default: Word
    winner: Word | None
    speedup: Interval
    noise: float
    trials: int
    ns: Mapping[Word, float]
    regret: Mapping[str, float]


def _decide(
    T: int, load: str, contest: Contest, default: Word, times: Mapping[str, Mapping[Word, TimedConfig]]
) -> Decision:
    """The verdict of the last final, whose default passed."""
    final = [passed for batch in contest.of("final") if default in (passed := _passed(batch))][-1]
    own = final.pop(default)
    verdict = decide(own[0], own[-1], [samples[0] for samples in final.values()])
    winner = None if verdict.winner is None else list(final)[verdict.winner]
    chosen = winner or default
    regret = {other: _regret_of(chosen, found) for other, found in times.items() if other != load and chosen in found}
    ns = {word: timed.ns for word, timed in times[load].items()}
    return Decision(T, default, winner, verdict.speedup, verdict.noise, len(contest.records), ns, regret)


def _decide_robustly(
    T: int, default: Word, times: Mapping[str, Mapping[Word, TimedConfig]], contests: Sequence[Contest]
) -> Decision:
    """What has the least worst regret over the loads, if it beats the default where that is worst."""
    common = [word for word in next(iter(times.values())) if all(word in found for found in times.values())]
    worst = {word: max(_regret_of(word, found) for found in times.values()) for word in common}
    best = min(common, key=lambda word: worst[word])
    unsure = max(contest.noise(default) for contest in contests)
    hardest = max(times.values(), key=lambda found: _regret_of(default, found))
    speedup = Interval(1.0, 1.0, 1.0)
    if best != default:
        speedup = ratio(hardest[best].beside, hardest[best].samples)
    winner = best if best != default and beats(speedup, unsure) else None
    fastest = geometric_mean(min(timed.ns for timed in found.values()) for found in times.values())
    ns = {word: fastest * (1 + regret) for word, regret in worst.items()}
    regret = {load: _regret_of(winner or default, found) for load, found in times.items()}
    trials = sum(len(contest.records) for contest in contests)
    return Decision(T, default, winner, speedup, unsure, trials, ns, regret)


def _regret_of(word: Word, times: Mapping[Word, TimedConfig]) -> float:
    return times[word].ns / min(timed.ns for timed in times.values()) - 1


def _entry(
    shape: Problem, loads: tuple[str, ...], decisions: Sequence[Decision], configs: Mapping[Word, Config]
) -> TableEntry:
    decisions = sorted(decisions, key=lambda decision: decision.T)
    words = list(dict.fromkeys(itertools.chain([decisions[0].default], *(decision.ns for decision in decisions))))
    number = {word: index for index, word in enumerate(words)}
    buckets = []
    for one in decisions:
        verdict: Literal["tuned", "tie"] = "tuned" if one.winner else "tie"
        times = [one.ns.get(word) for word in words]
        buckets.append(
            Bucket(
                T=one.T,
                default=number[one.default],
                chosen=number[one.winner or one.default],
                verdict=verdict,
                speedup=_rounded(one.speedup.value),
                interval=(_rounded(one.speedup.low), _rounded(one.speedup.high)),
                noise=_rounded(one.noise),
                trials=one.trials,
                median_ns=tuple(None if ns is None else _rounded(ns) for ns in times),
                regret={load: _rounded(regret) for load, regret in one.regret.items()},
            )
        )
    return TableEntry(shape=shape, loads=loads, configs=tuple(configs[word] for word in words), buckets=tuple(buckets))


def _table(records: Sequence[Record], origins: Sequence[Origin], entries: Sequence[TableEntry]) -> TunedTable:
    times = sorted(record.time for record in records)
    return TunedTable(
        kernel=records[0].kernel,
        source=records[0].source,
        cache="hot" if records[0].point.cache == "hot" else "cold",
        environment=records[0].environment.model_dump(),
        measured=(times[0], times[-1]),
        origins=tuple(origins),
        entries=tuple(entries),
    )


def _passed(batch: Sequence[Record]) -> dict[Word, list[Samples]]:
    """Samples of what passed, by configuration in order; twice where it was measured twice."""
    passed: dict[Word, list[Samples]] = defaultdict(list)
    for record in batch:
        if record.timing is not None:
            passed[_word(record.config)].append(record.timing.samples_ns)
    return dict(passed)


def _configs(records: Iterable[Record]) -> dict[Word, Config]:
    return {_word(record.config): record.config for record in records}  # type: ignore[misc]  # made by kernels, as Config


def _word(config: Mapping[str, object]) -> Word:
    return json.dumps(config, sort_keys=True)


def _validity(record: Record) -> tuple[str, ...]:
    environment = [str(getattr(record.environment, name)) for name in VALIDITY]
    return (record.kernel, record.source, record.point.cache, *environment)


def _validity_of(table: TunedTable) -> tuple[str, ...]:
    return (table.kernel, table.source, table.cache, *(str(table.environment[name]) for name in VALIDITY))


def _rounded(value: float) -> float:
    """To six digits: more would be noise, and in a file that people read."""
    return float(f"{value:.6g}")


def _origin(path: Path) -> Origin:
    try:
        return Origin(file=path.name, sha256=hashlib.sha256(path.read_bytes()).hexdigest())
    except OSError as error:
        raise StoreError(f"{path}: {error.strerror}; give a file of records") from error
