"""Times from records: of a phase's own problem, or interpolated between two numbers of tokens that were measured.

Records of different machines, versions, or ways of timing are never compared. Those of a tuning run are not read here:
tables derived from them compare configurations as they were measured.
"""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from ...kernels.catalog import KERNELS
from ...kernels.problem import Problem
from ...kernels.problem.load import Load
from ...kernels.problem.router import Router
from ...kernels.problem.trace import PREFIX, label
from ...kernels.tuned.source_hash import source_hash
from ...kernels.tuned.tuned_table import shape_of
from ...results.record import CacheState, Environment, Record, Timing
from ...results.record.advice import AdviceSource
from ...results.record.identity import config_text
from ...results.references import NOT_COMPETING
from ...results.stats import median
from .timed_dispatch import PhaseTimes, TimedDispatch

CACHES: Final[tuple[CacheState, ...]] = ("cold", "hot", "eager")
"""Ways of timing, the preferred one first."""
NAMED: Final = 3  # kernels whose failure is told where all failed
BOTH: Final = 2  # sides of a number of tokens


@dataclass
class _WayOfTiming:
    """The records of one shape and load in one environment and way of timing, by number of tokens."""

    environment: Environment
    cache: CacheState
    by_tokens: dict[int, list[Record]] = field(default_factory=lambda: defaultdict(list))

    def rank(self) -> tuple[int, str]:
        """Return the key that sorts the preferred way of timing first, and the older of two environments."""
        times = (record.time for records in self.by_tokens.values() for record in records)
        return -CACHES.index(self.cache), max(times)


class RecordedTimes:
    """The records of one device, by what they are of."""

    def __init__(self, records: Iterable[Record]) -> None:
        self._measured: dict[tuple[Problem, str], dict[tuple[Environment, CacheState], _WayOfTiming]] = {}
        self._shapes: set[Problem] = set()
        layers: dict[str, tuple[Problem, int] | None] = {}
        for record in records:
            text = json.dumps(record.problem, sort_keys=True)
            if text not in layers:
                problem = problem_of(record)
                layers[text] = None if problem is None else (layer_of(problem), problem.T)
            known = layers[text]
            if known is None or record.kernel in NOT_COMPETING:
                continue
            layer, tokens = known
            self._shapes.add(layer)
            if record.point.stage is None:
                load = load_word(str(record.problem.get("load", "uniform")))
                way = (record.environment, record.point.cache)
                found = self._measured.setdefault((layer, load), {})
                found.setdefault(way, _WayOfTiming(*way)).by_tokens[tokens].append(record)

    def has(self, problem: Problem) -> bool:
        """Return whether there are records of the problem's layer, under any load and with any number of tokens."""
        return layer_of(problem) in self._shapes

    @property
    def layers(self) -> list[str]:
        """The layers that there are records of, in words."""
        words = {(p.D, p.F, p.E, p.K, p.dtype, p.mode) for p in self._shapes}
        return [f"D={D} F={F} E={E} K={K} {dtype} {mode}" for D, F, E, K, dtype, mode in sorted(words)]

    def of(self, problem: Problem) -> PhaseTimes | None:
        """Return the times of a problem, of the newest environment in which it was measured; None without any."""
        ways = self._measured.get((layer_of(problem), load_word(problem.load)), {}).values()
        preferred = sorted(ways, key=_WayOfTiming.rank, reverse=True)
        for way in preferred:
            if (found := _exact(way, problem.T)).dispatches:
                return found
        between = (_between(way, problem.T) for way in preferred)
        return next((found for found in between if found is not None), None)

    def lack(self, problem: Problem) -> str:
        """Return why there are no times of a problem, in words."""
        layer = layer_of(problem)
        if layer not in self._shapes:
            return f"no record is of this layer in mode {problem.mode}"
        loads = sorted(load for shape, load in self._measured if shape == layer)
        if not loads:
            return "the records of this layer are of tuning runs, whose tables do not cover this"
        if load_word(problem.load) not in loads:
            return f"the records of this layer are of load {', '.join(loads)}, not {load_word(problem.load)}"
        ways = self._measured[layer, load_word(problem.load)].values()
        tokens = sorted({T for way in ways for T in way.by_tokens})
        measured = ", ".join(map(str, tokens))
        if not tokens[0] <= problem.T <= tokens[-1]:
            return f"T={problem.T} is outside of the numbers of tokens that were measured: {measured}"
        failed = [record for way in ways for record in way.by_tokens.get(problem.T, ())]
        if failed:
            named = {one.kernel: f"{one.kernel} {one.status.value.replace('_', ' ')}: {one.reason}" for one in failed}
            more = f" and {len(named) - NAMED} more" if len(named) > NAMED else ""
            return f"no dispatch passed at T={problem.T}: {'; '.join(list(named.values())[:NAMED])}{more}"
        return f"no dispatch passed on both sides of T={problem.T}; measured were T={measured}"

    def environments(self, problems: Iterable[Problem]) -> int:
        """Return the number of environments in which the layers of problems were measured."""
        layers = {layer_of(problem) for problem in problems}
        ways = (ways for (layer, _), ways in self._measured.items() if layer in layers)
        return len({environment for found in ways for environment, _ in found})


def problem_of(record: Record) -> Problem | None:
    """Return the problem of a record under a uniform load, as its own may be a file; None where it is no problem."""
    try:
        return Problem(**{**record.problem, "load": "uniform"})  # type: ignore[arg-type]  # checked in it
    except (TypeError, ValueError):
        return None


def load_word(load: str) -> str:
    """Return a load as one word that is equal for equal loads, however their numbers are written."""
    text = label(load)
    try:
        found = Load.parse(text) if not text.startswith(PREFIX) else None
    except ValueError:
        return text
    return text if found is None or ":" not in text else f"{found.name}:{found.parameter:g}"


def layer_of(problem: Problem) -> Problem:
    """Return what two problems share whose times are of the same layer, under whatever load and number of tokens.

    Routers whose choices follow the load are equal, as no dispatch sees them; the rules of a capacity are, without one.
    """
    rules = {} if problem.capacity_factor is not None else {"drop": "first_come", "capacity_rule": "ceil"}
    router = {"router": "softmax_topk"} if Router.parse(problem.router).follows_load else {}
    return shape_of(problem).replace(**rules, **router)


def _exact(way: _WayOfTiming, tokens: int) -> PhaseTimes:
    """Return the times of a number of tokens: of each kernel its fastest configuration."""
    latest: dict[tuple[str, str], Record] = {}
    for record in sorted(way.by_tokens.get(tokens, ()), key=lambda record: record.time):
        if not record.status.of_the_machine:
            latest[record.kernel, config_text(record.config)] = record
    fastest: dict[str, TimedDispatch] = {}
    for record in latest.values():
        if record.timing is not None:
            timed = _timed(record, record.timing)
            if record.kernel not in fastest or timed.seconds < fastest[record.kernel].seconds:
                fastest[record.kernel] = timed
    failed = {record.kernel: record for record in latest.values() if record.kernel not in fastest}
    left_out = [f"{kernel}: {one.status.value.replace('_', ' ')}: {one.reason}" for kernel, one in failed.items()]
    return PhaseTimes(dispatches=list(fastest.values()), left_out=left_out)


def _timed(record: Record, timing: Timing) -> TimedDispatch:
    found = median([ns / 1e9 for ns in timing.samples_ns])
    point = record.point
    caches = "eager calls" if point.cache == "eager" else f"{point.cache} caches"
    changed = "; its sources have changed since" if _has_changed(record) else ""
    return TimedDispatch(
        kernel=record.kernel,
        config=record.config,
        source=AdviceSource.measured,
        basis=f"measured on {record.time[:10]}, {caches}{changed}",
        seconds=found.value,
        interval=found,
        peak_bytes=record.memory.peak if record.memory else None,
        samples_ns=timing.samples_ns,
        batch=(point.suite, point.line, point.x, record.time),
    )


def _has_changed(record: Record) -> bool:
    """Return whether the kernel is known here and made of other sources than were measured."""
    if not record.source or record.kernel not in KERNELS.names():
        return False
    return record.source != source_hash(record.kernel, str(record.problem.get("block", "")))


def _between(way: _WayOfTiming, tokens: int) -> PhaseTimes | None:
    """Return times interpolated between the nearest numbers of tokens with times; None where there are none."""
    times = {T: _exact(way, T) for T in _sides(way, tokens)}
    if len(times) < BOTH:
        return None
    low, high = times
    above = {one.kernel: one for one in times[high].dispatches}
    both = [(one, above[one.kernel]) for one in times[low].dispatches if one.kernel in above]
    if not both:
        return None
    missing = {one.kernel for T in (low, high) for one in times[T].dispatches} - {one.kernel for one, _ in both}
    left_out = [f"{kernel}: not measured at both T={low} and T={high}" for kernel in sorted(missing)]
    return PhaseTimes(
        dispatches=[_interpolated(ends, (low, high), tokens) for ends in both],
        left_out=[*times[low].left_out, *times[high].left_out, *left_out],
    )


def _sides(way: _WayOfTiming, tokens: int) -> list[int]:
    """Return the nearest smaller and the nearest larger number of tokens for which a trial passed."""
    passed = [T for T, records in way.by_tokens.items() if any(record.timing for record in records)]
    below, above = [T for T in passed if tokens > T], [T for T in passed if tokens < T]
    return [max(below), min(above)] if below and above else []


def _interpolated(ends: tuple[TimedDispatch, TimedDispatch], at: tuple[int, int], tokens: int) -> TimedDispatch:
    """Return a time between two, linear in the logarithms of time and tokens; memory is linear in tokens."""
    (low, high), (below, above) = at, ends
    share = math.log(tokens / low) / math.log(high / low)
    seconds = math.exp((1 - share) * math.log(below.seconds) + share * math.log(above.seconds))
    nearer = below if share < 0.5 else above
    peak = None
    if below.peak_bytes is not None and above.peak_bytes is not None:
        peak = round(below.peak_bytes + (above.peak_bytes - below.peak_bytes) * (tokens - low) / (high - low))
    config = "" if below.config == above.config else f", configuration of T={low if nearer is below else high}"
    return TimedDispatch(
        kernel=below.kernel,
        config=nearer.config,
        source=AdviceSource.interpolated,
        basis=f"interpolated between T={low} and T={high}{config}",
        seconds=seconds,
        peak_bytes=peak,
        ends=ends,
    )
