"""Summary of a report: the winner of each suite, a scorecard of models and phases, what failed, what was disturbed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from itertools import groupby
from typing import Final

from ..measures import named
from ..numbers import MISSING, counted, exact, number, number_of, plain, span, status_words
from ..row import Row
from ..section import Section
from .winner import Winner, contested, winner

DECODE_TOKENS: Final = 512
"""Tokens of a forward up to which it counts as decoding: engines that serve batch some hundred sequences at most."""


class Phase(StrEnum):
    """Phase of serving or training that a call of a layer is a part of."""

    decode = "decode"
    prefill = "prefill"
    training = "training"


@dataclass(frozen=True, kw_only=True)
class SuiteResult:
    """The winner of one section, whose place on the page is ``order``; None without a contest."""

    order: int
    section: Section
    winner: Winner | None


@dataclass(frozen=True, kw_only=True)
class Score:
    """The best kernel of one model in one phase on one machine, over all suites that measured it.

    ``tokens`` are the batch sizes; ``rates`` and ``shares`` from where to where its tokens/s and its shares of the
    lower bound go, and ``costs`` those of a million tokens, in words.
    """

    machine: str
    model: str
    phase: Phase
    dtype: str
    tokens: str
    winner: Winner
    rates: str
    shares: str
    costs: str


@dataclass(frozen=True, kw_only=True)
class ServingLine:
    """Tokens per second of the fastest kernel for one model, by batch size of a forward; with the kernel's name."""

    machine: str
    model: str
    dtype: str
    cells: dict[int, tuple[str, str]]


@dataclass(frozen=True, kw_only=True)
class StoppedTrials:
    """Trials of one kernel that ended in one way: how many, in which suites, and the reason of the first."""

    kernel: str
    outcome: str
    bad: bool
    count: int
    suites: str
    reason: str


@dataclass(frozen=True)
class Summary:
    """Summary of a report, computed from its sections."""

    sections: Sequence[Section]

    @cached_property
    def results(self) -> list[SuiteResult]:
        return [
            SuiteResult(order=order, section=section, winner=winner(section.rows))
            for order, section in enumerate(self.sections, start=1)
        ]

    @cached_property
    def scorecard(self) -> list[Score]:
        """Return one line for each machine, model, dtype and phase in which kernels were compared, by machine."""
        found = []
        for (machine, model, dtype, phase), rows in self._calls.items():
            best = winner(rows)
            if best:
                found.append(_score(machine, model, dtype, phase, rows, best))
        machines = list(dict.fromkeys(one.machine for one in found))
        models = list(dict.fromkeys(one.model for one in found))
        phases = list(Phase)
        return sorted(
            found,
            key=lambda one: (
                machines.index(one.machine),
                models.index(one.model),
                one.dtype,
                phases.index(one.phase),
            ),
        )

    @property
    def scores_by_machine(self) -> list[tuple[str, list[Score]]]:
        return [(machine, list(group)) for machine, group in groupby(self.scorecard, key=lambda one: one.machine)]

    @property
    def serving_by_machine(self) -> list[tuple[str, list[ServingLine]]]:
        return [(machine, list(group)) for machine, group in groupby(self.serving, key=lambda one: one.machine)]

    @cached_property
    def serving(self) -> list[ServingLine]:
        """Return the tokens per second of forwards, for each model that was measured at two batch sizes or more."""
        lines: dict[tuple[str, str, str], list[Row]] = defaultdict(list)
        for (machine, model, dtype, phase), rows in self._calls.items():
            if phase is not Phase.training:
                lines[machine, model, dtype].extend(rows)
        found = [
            ServingLine(machine=machine, model=model, dtype=dtype, cells=_fastest_by_tokens(rows))
            for (machine, model, dtype), rows in lines.items()
        ]
        machines = [section.machine.label for section in self.sections]
        return sorted((line for line in found if len(line.cells) > 1), key=lambda line: machines.index(line.machine))

    @property
    def batch_sizes(self) -> list[int]:
        return sorted({tokens for line in self.serving for tokens in line.cells})

    @cached_property
    def failed(self) -> list[StoppedTrials]:
        """Return what went wrong, the most frequent first; what the machine is to blame for is in ``disturbed``."""
        return _stopped(row for row in self._rows if row.record.status.bad and not row.record.status.of_the_machine)

    @cached_property
    def disturbed(self) -> list[StoppedTrials]:
        return _stopped(row for row in self._rows if row.record.status.of_the_machine)

    @property
    def outcome(self) -> str:
        """Return in one sentence how many trials passed, failed, were refused and were disturbed."""
        rows = list(self._rows)
        passed = sum(row.passed for row in rows)
        failed = sum(one.count for one in self.failed)
        disturbed = sum(one.count for one in self.disturbed)
        refused = len(rows) - passed - failed - disturbed
        parts = [f"{number_of(passed)} of {counted(len(rows), 'trial')} passed"]
        parts += [f"{number_of(failed)} failed"] if failed else []
        parts += [f"{number_of(disturbed)} had no number because the machine was disturbed"] if disturbed else []
        parts += [f"{number_of(refused)} had nothing to measure (unsupported, invalid or too large)"] if refused else []
        return f"{', '.join(parts)}."

    @property
    def _rows(self) -> Iterable[Row]:
        return (row for section in self.sections for row in section.rows)

    @cached_property
    def _calls(self) -> dict[tuple[str, str, str, Phase], list[Row]]:
        """Rows that compete, by machine, model, dtype and phase; those of a search compare configurations."""
        grouped: dict[tuple[str, str, str, Phase], list[Row]] = defaultdict(list)
        for section in self.sections:
            for row in section.rows:
                tokens = _tokens(row)
                if row.competes and tokens and row.record.point.stage is None:
                    key = (section.machine.label, _model(row), row.place.facet.dtype, _phase(row, tokens))
                    grouped[key].append(row)
        return grouped


def _model(row: Row) -> str:
    """Return the name of the model whose layer a row is of, with the width that it was scaled to, else its sizes."""
    problem = row.record.problem
    if row.record.point.model:
        return f"{plain(row.record.point.model)}, D={problem.get('D')}"
    return ", ".join(f"{name}={problem[name]}" for name in "DFEK" if name in problem)


def _tokens(row: Row) -> int | None:
    """Return the tokens of one rank."""
    tokens, ranks = row.record.problem.get("T"), row.record.problem.get("ranks", 1)
    return tokens // max(1, ranks) if isinstance(tokens, int) and isinstance(ranks, int) else None


def _phase(row: Row, tokens: int) -> Phase:
    if row.record.problem.get("mode") == "train":
        return Phase.training
    return Phase.decode if tokens <= DECODE_TOKENS else Phase.prefill


def _score(machine: str, model: str, dtype: str, phase: Phase, rows: Sequence[Row], best: Winner) -> Score:
    own = [place[best.kernel] for place in contested(rows) if best.kernel in place]

    def ends(name: str, scale: float = 1) -> str:
        measure = named(name)
        found = [scale * value for row in own if isinstance(value := measure.value(row), float | int)]
        return span(found) if found else MISSING

    return Score(
        machine=machine,
        model=model,
        phase=phase,
        dtype=dtype,
        tokens=span(sorted({_tokens(row) or 0 for row in rows}), write=exact),
        winner=best,
        rates=ends("tokens_per_s"),
        shares=ends("share_of_bound", 100),
        costs=ends("cost_per_million_tokens"),
    )


def _fastest_by_tokens(rows: Sequence[Row]) -> dict[int, tuple[str, str]]:
    """Return for each batch size tokens/s and name of the fastest kernel; dropping calls do not count."""
    whole: dict[int, list[Row]] = defaultdict(list)
    for row in rows:
        if not row.drop_rate:
            whole[_tokens(row) or 0].append(row)
    rate_of = named("tokens_per_s").value
    found = {}
    for tokens in sorted(whole):
        row = min(whole[tokens], key=lambda one: one.median.value if one.median else float("inf"))
        rate = rate_of(row)
        if isinstance(rate, float):
            found[tokens] = (number(rate), row.kernel)
    return found


def _stopped(rows: Iterable[Row]) -> list[StoppedTrials]:
    grouped: dict[tuple[str, str], list[Row]] = defaultdict(list)
    for row in rows:
        grouped[row.kernel, status_words(row.record.status)].append(row)
    found = [
        StoppedTrials(
            kernel=kernel,
            outcome=outcome,
            bad=group[0].record.status.bad,
            count=len(group),
            suites=", ".join(dict.fromkeys(plain(row.record.point.suite) for row in group)),
            reason=group[0].reason,
        )
        for (kernel, outcome), group in grouped.items()
    ]
    return sorted(found, key=lambda one: (-one.count, one.kernel))
