"""Times of dispatches for one phase, from whichever source, and how sure it is that one of two is faster."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from pydantic import JsonValue

from ...kernels.tuned.select import TRUSTED
from ...results.record.advice import AdviceSource, Certainty, Margin
from ...results.stats import Interval, ratio

PREDICTION_ERROR: Final = 1 / TRUSTED
"""Times that differ by less are tied where both are predictions for a CPU; see `kernels.tuned.select.TRUSTED`."""


@dataclass(frozen=True, kw_only=True)
class TimedDispatch:
    """The time of one call with one dispatch, ``seconds``, and what is known of it.

    ``samples_ns`` are those of a measured time, ``batch`` names the trial in which they were taken: those of equal
    batches were taken in turn. ``ends`` are the measured times on both sides of an interpolated one. ``compared`` says
    whether predictions of its kind were ever compared with measurements.
    """

    kernel: str
    config: Mapping[str, JsonValue]
    source: AdviceSource
    basis: str
    seconds: float
    interval: Interval | None = None
    peak_bytes: int | None = None
    samples_ns: Sequence[float] = field(default=(), repr=False)
    batch: object = None
    ends: tuple[TimedDispatch, ...] = field(default=(), repr=False)
    compared: bool = True


@dataclass(frozen=True, kw_only=True)
class PhaseTimes:
    """The times of all dispatches for one phase, which are of one source, and why other dispatches have none."""

    dispatches: Sequence[TimedDispatch]
    left_out: Sequence[str] = ()

    @property
    def source(self) -> AdviceSource | None:
        """The source of the times, None where there are none."""
        return self.dispatches[0].source if self.dispatches else None

    def without(self, reason: str) -> PhaseTimes:
        """Return the same with another reason why something has no time."""
        return replace(self, left_out=[reason, *self.left_out])

    def fastest_first(self) -> PhaseTimes:
        """Return the same with the fastest first."""
        return replace(self, dispatches=sorted(self.dispatches, key=lambda one: one.seconds))


def margin(one: TimedDispatch, other: TimedDispatch) -> Margin:
    """Return the margin of a dispatch over another for the same phase, of the same source."""
    judge = {
        AdviceSource.measured: _of_samples,
        AdviceSource.interpolated: _of_ends,
        AdviceSource.tuned_table: _of_tables,
        AdviceSource.predicted: _of_predictions,
    }
    return judge[one.source](one, other)


def _of_samples(one: TimedDispatch, other: TimedDispatch) -> Margin:
    found = ratio(other.samples_ns, one.samples_ns)
    if one.batch != other.batch:
        why = "measured at different times, between which the machine may have changed"
        return _margin(other, found.value, Certainty.unclear, why)
    sure = found.low > 1 or found.high < 1
    why = "measured side by side, and the 95 % interval of the ratio " + ("excludes 1" if sure else "holds 1")
    return Margin(
        over=other.kernel,
        ratio=found.value,
        low=found.low,
        high=found.high,
        certainty=Certainty.certain if sure else Certainty.tied,
        why=why,
    )


def _of_ends(one: TimedDispatch, other: TimedDispatch) -> Margin:
    value = other.seconds / one.seconds
    ends = [_of_samples(*pair) for pair in zip(one.ends, other.ends, strict=True)]
    if any(end.certainty is Certainty.unclear for end in ends):
        return _margin(other, value, Certainty.unclear, "measured at different times on a side of it")
    if all(end.certainty is Certainty.certain and (end.ratio > 1) == (value > 1) for end in ends):
        return _margin(other, value, Certainty.likely, "certain at the measured numbers of tokens on both sides")
    return _margin(other, value, Certainty.tied, "not certain at the measured numbers of tokens on both sides")


def _of_tables(one: TimedDispatch, other: TimedDispatch) -> Margin:
    why = "tuned apart: tables compare the configurations of one kernel"
    return _margin(other, other.seconds / one.seconds, Certainty.unclear, why)


def _of_predictions(one: TimedDispatch, other: TimedDispatch) -> Margin:
    value = other.seconds / one.seconds
    if not one.compared:
        why = "predictions for this device were never compared with measurements"
        return _margin(other, value, Certainty.unclear, why)
    limit = f"{PREDICTION_ERROR:.2f} times, the error of predictions"
    if math.exp(abs(math.log(value))) >= PREDICTION_ERROR:
        return _margin(other, value, Certainty.likely, f"predicted to differ by more than {limit}")
    return _margin(other, value, Certainty.tied, f"predicted to differ by less than {limit}")


def _margin(other: TimedDispatch, value: float, certainty: Certainty, why: str) -> Margin:
    return Margin(over=other.kernel, ratio=value, certainty=certainty, why=why)
