"""The measures of a report. A new one is one line in `MEASURES`, which is all that tables, glossary and files read."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Final

from ..results.record import Launches, Phases
from ..results.references import REFERENCES
from .balance_measures import BALANCE_MEASURES
from .columns import PERCENT, Column, Measure, Value
from .efficiency_measures import EFFICIENCY_MEASURES
from .numbers import MISSING, ends, plain
from .row import Row

MIB: Final = 2**20


def columns() -> list[Column]:
    """Return the columns of the measures that tables show."""
    return [measure.column for measure in MEASURES if measure.heading]


def balance_columns() -> list[Column]:
    """Return the columns of a table that compares loads and routers, one row for each place."""
    return [measure.column for measure in BALANCE_MEASURES if measure.heading]


def glossary(shown: Iterable[str]) -> list[tuple[str, str]]:
    """Return the heading and the meaning of every measure of which a column with such a heading is shown."""
    headings = set(shown)
    every = (*MEASURES, *BALANCE_MEASURES)
    found = [measure for measure in every if measure.heading and measure.column.heading in headings]
    return [(measure.heading, measure.meaning) for measure in found]


def named(name: str) -> Measure:
    """Return the measure of that name."""
    return next(measure for measure in MEASURES if measure.name == name)


def heading(name: str) -> str:
    """Return the heading of a measure's column, with its unit."""
    return named(name).column.heading


def values(row: Row) -> dict[str, Value]:
    """Return every measure of a row by its name, as files hold it."""
    return {measure.name: measure.value(row) for measure in (*MEASURES, *BALANCE_MEASURES)}


def _tokens_per_s(row: Row) -> float | None:
    """Return None for a reference: its tokens are routed rows."""
    tokens = row.record.problem.get("T")
    if row.median is None or row.reference or not isinstance(tokens, int):
        return None
    return tokens / row.median.value * 1e3


def _peak_mib(row: Row) -> float | None:
    return None if row.record.memory is None else row.record.memory.peak / MIB


def _saved_mib(row: Row) -> float | None:
    if row.record.memory is None or row.place.facet.mode != "train":
        return None
    return row.record.memory.saved / MIB


def _padding(row: Row) -> float | None:
    work = row.record.work
    return work.executed_flops / work.useful_flops if row.passed and work and work.useful_flops else None


def _sent_mib(row: Row) -> float | None:
    return sum(row.record.sent_bytes) / MIB if row.passed and row.record.sent_bytes else None


def _across_mib(row: Row) -> float | None:
    traffic = row.record.traffic
    return sum(traffic.across_bytes) / MIB if row.passed and traffic else None


def _copies(row: Row) -> float | None:
    traffic = row.record.traffic
    return sum(traffic.rows) / sum(traffic.routes) if row.passed and traffic and any(traffic.routes) else None


def _share(row: Row, part: Callable[[Phases], Sequence[float]]) -> float | None:
    """Return the share of a call, summed over all ranks, that is one of its parts."""
    phases = row.record.phases
    if not row.passed or phases is None:
        return None
    whole = sum(map(sum, (phases.compute_ns, phases.communication_ns, phases.waiting_ns)))
    return sum(part(phases)) / whole if whole else None


def _moving(row: Row) -> float | None:
    stages = row.record.stages
    if not row.passed or stages is None or not stages.whole_ns or not {"dispatch", "combine"} & stages.stages_ns.keys():
        return None
    return sum(stages.stages_ns.get(name, 0.0) for name in ("dispatch", "combine")) / stages.whole_ns


def _hidden(row: Row) -> float | None:
    return row.record.phases.overlap if row.passed and row.record.phases else None


def _launches(row: Row, part: Callable[[Launches], int]) -> int | None:
    return None if row.record.launches is None else part(row.record.launches)


def _energy_j(row: Row) -> float | None:
    return None if row.record.clocks is None else row.record.clocks.energy_j


def _rate_over(reference: str, words: str) -> Measure:
    meaning = f"useful TFLOP/s over those of {words}, which does not compete; its lower bound is its own"
    value = partial(_rate, reference)
    return Measure(f"rate_over_{reference}", f"of {reference}", PERCENT, meaning, value, drop_priority=2)


def _rate(reference: str, row: Row) -> float | None:
    return row.rate_over(reference)


def _choice(row: Row) -> str:
    return row.choice or MISSING


def _interval(row: Row) -> str:
    return ends(row.median)


def _sameness(name: str, row: Row) -> str | None:
    """Return whether a token kept its bits: by construction, as observed, or not, with the first that did not."""
    found = row.record.invariance.properties.get(name) if row.record.invariance else None
    if found is None:
        return None
    if found.same:
        return "same (by construction)" if found.guaranteed else "same (observed)"
    if found.beyond_rounding is None:
        return f"{plain(found.differs)} (rounding, {found.distance:.1g})"
    return f"token {found.beyond_rounding} (up to {found.distance:.1g})"


def _invariance(name: str, heading: str, words: str) -> Measure:
    meaning = (
        f"whether a token's result has the same bits {words}, by construction or as observed; else the first token"
        " that differs, by more than rounding if any does, and the largest ‖one − other‖ over the larger of the two"
    )
    return Measure(f"same_{name}", heading, "", meaning, partial(_sameness, name), numeric=False)


_CHOICES = "the choices of a configuration in which the records of the kernel differ"
_BOUND = "the lower bound of the time"
_COPIES = "rows that left their rank over routes that did: deduplication saves some, padding adds some"
_FLOPS = "FLOPs of the expert products on kept rows over the median; padding does not count"

MEASURES: Final[tuple[Measure, ...]] = (
    Measure("config", "config", "", _CHOICES, lambda row: row.config, text=_choice, drop_priority=9, numeric=False),
    Measure(
        "cache",
        "",
        "",
        "how calls found the caches: hot, eager, or cold and how they were made so",
        lambda row: row.record.timing.caches if row.record.timing else None,
        numeric=False,
    ),
    Measure(
        "median_ms", "median", "ms", "the middle of all samples", lambda row: row.median.value if row.median else None
    ),
    Measure(
        "low_ms",
        "95 % interval",
        "ms",
        "both ends of the bootstrap interval of the median",
        lambda row: row.median.low if row.median else None,
        text=_interval,
        drop_priority=4,
    ),
    Measure("high_ms", "", "ms", "the upper end of that interval", lambda row: row.median.high if row.median else None),
    Measure(
        "spread",
        "spread",
        PERCENT,
        "half the interquartile range over the median",
        lambda row: row.spread,
        drop_priority=7,
    ),
    Measure(
        "tokens_per_s", "tokens/s", "tokens/s", "tokens of one call over the median", _tokens_per_s, drop_priority=6
    ),
    Measure("useful_tflop_per_s", "useful TFLOP/s", "TFLOP/s", _FLOPS, lambda row: row.tflops, drop_priority=5),
    Measure("bound_ms", "", "ms", _BOUND, lambda row: row.bound),
    Measure(
        "share_of_bound",
        "of bound",
        PERCENT,
        "lower bound over median: 100 % is all that the machine can do",
        lambda row: row.share,
        drop_priority=1,
    ),
    *EFFICIENCY_MEASURES,
    *(_rate_over(name, words) for name, words in REFERENCES.items()),
    Measure(
        "share_of_layer",
        "of layer",
        PERCENT,
        "time of the router alone over that of the fastest layer at its place, which has its routes given",
        lambda row: row.share_of_layer,
        drop_priority=1,
    ),
    Measure("peak_mib", "peak", "MiB", "memory that one call allocates beyond its inputs", _peak_mib, drop_priority=2),
    Measure(
        "saved_mib",
        "saved for backward",
        "MiB",
        "memory that a training step keeps for its backward",
        _saved_mib,
        drop_priority=3,
    ),
    Measure(
        "drop_rate",
        "dropped",
        PERCENT,
        "share of the routed rows that the capacity left out",
        lambda row: row.drop_rate,
        drop_priority=8,
    ),
    Measure("padding", "padding", "×", "executed over useful FLOPs", _padding, drop_priority=8, neutral=1),
    Measure(
        "sent_mib",
        "sent",
        "MiB",
        "payload that all ranks together sent to others in one call",
        _sent_mib,
        drop_priority=3,
    ),
    Measure(
        "across_mib",
        "across nodes",
        "MiB",
        "the part of that payload that left its node",
        _across_mib,
        drop_priority=4,
        neutral=0,
    ),
    Measure("copies_per_route", "copies per route", "", _COPIES, _copies, drop_priority=8),
    Measure(
        "communicating",
        "communicating",
        PERCENT,
        "share of a call in collectives that all ranks started together",
        lambda row: _share(row, lambda phases: phases.communication_ns),
        drop_priority=5,
    ),
    Measure(
        "waiting",
        "waiting",
        PERCENT,
        "share of a call in waiting for the slowest rank to start a collective",
        lambda row: _share(row, lambda phases: phases.waiting_ns),
        drop_priority=6,
    ),
    Measure(
        "hidden",
        "hidden",
        PERCENT,
        "share of the communication during which the computation went on",
        _hidden,
        drop_priority=5,
        neutral=0,
    ),
    Measure(
        "moving",
        "moving",
        PERCENT,
        "share of a call with warm caches in dispatch and combine: ordering routes, copying tokens and adding rows up, "
        "where no product does it",
        _moving,
        drop_priority=5,
    ),
    _invariance("repeat", "again", "in a second call, of a training step the gradients too"),
    _invariance("batch", "other batch sizes", "in smaller batches"),
    _invariance("alone", "alone", "when it is the only token"),
    _invariance("order", "other order", "when the tokens are in another order"),
    Measure(
        "kernel_launches",
        "",
        "",
        "kernels of this package that one call starts",
        lambda row: _launches(row, lambda one: sum(one.kernels.values())),
    ),
    Measure(
        "torch_operators",
        "",
        "",
        "torch operators that compute or copy in one call",
        lambda row: _launches(row, lambda one: sum(one.operators.values())),
    ),
    Measure(
        "host_waits",
        "",
        "",
        "operators of one call whose result the host waits for",
        lambda row: _launches(row, lambda one: one.host_waits),
    ),
    Measure(
        "energy_j",
        "energy",
        "J",
        "energy of one of many calls back to back, as the device counts it for the whole of itself",
        _energy_j,
        drop_priority=8,
    ),
)
