"""Predictions of a layer on clusters of many sizes, for every dispatcher."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from typing import Final

from ...common.counts import count
from ...execution.trial.task import Task
from ...kernels.problem import DType, InvalidProblem, Problem
from ...kernels.problem.popularity import choices
from ...results.record.prediction import SCHEMA, Expected, Held, Prediction, Sent, Share
from ..suite import Suite
from .dispatcher_traffic import FLOWS, unsupported
from .forecast import Forecast, Setting, forecast
from .layout import Layout
from .machine import MachineDescription


@dataclass(frozen=True, kw_only=True)
class PredictionRequest:
    """Request for predictions of a layer on a machine of each of several sizes.

    ``problem`` is that of one rank: T counts its tokens, and every rank has as many. ``wire`` is `Problem.wire` for
    more than one rank.
    """

    series: str
    problem: Problem
    machine: MachineDescription
    ranks: Sequence[int]
    wire: DType | None = None
    chunks: int = 1


MOST_RANKS: Final = 1 << 30


def rank_counts(words: str) -> list[int]:
    """Parse numbers of ranks with commas between them, and A..B for the powers of two from A to B.

    Returns each number once, ascending.

    Raises:
        InvalidProblem: naming the part that is neither a number nor a range with a power of two.
    """
    found: set[int] = set()
    for word in words.split(","):
        first, dots, last = word.strip().partition("..")
        least, most = count(first), count(last if dots else first)
        if least is None or most is None:
            raise InvalidProblem(
                f"--ranks {words}: {word.strip()!r} is not a number of ranks; give 8,16,24 or 8..65536"
            )
        if not dots:
            powers = {least}
        else:
            powers = {1 << exponent for exponent in range(most.bit_length()) if least <= 1 << exponent}
        if not powers:
            raise InvalidProblem(f"--ranks {words}: no power of two lies in {word.strip()}; give 8..65536")
        if most > MOST_RANKS:
            raise InvalidProblem(f"--ranks {words}: {word.strip()} is more than there are; give at most {MOST_RANKS}")
        found |= powers
    return sorted(found)


def predict(request: PredictionRequest) -> Iterator[Prediction]:
    """Yield a prediction for each number of ranks and each dispatcher, in that order.

    Raises:
        InvalidProblem: when there is a block around the experts.
        InvalidMachine: when the machine lacks products of the problem's dtype, or links that a layout needs.
    """
    if request.problem.block:
        raise InvalidProblem(
            f"block = {request.problem.block!r} stands on one rank, and predictions are of experts that ranks share: "
            "leave the block out"
        )
    machine, chosen = request.machine, choices(request.problem)
    for ranks in request.ranks:
        layout = Layout.of(ranks, experts=request.problem.E, ranks_per_node=machine.ranks_per_node)
        problem = request.problem.replace(
            T=request.problem.T * layout.ranks,
            ranks=layout.ranks,
            wire=request.wire if layout.ranks > 1 else None,
        )
        setting = Setting(machine=machine, layout=layout, problem=problem, choices=chosen, chunks=request.chunks)
        for dispatcher in FLOWS:
            reason = unsupported(dispatcher, layout)
            yield Prediction(
                schema_version=SCHEMA,
                series=request.series,
                machine=machine.name,
                ranks=ranks,
                ranks_per_node=machine.ranks_per_node,
                group=layout.ranks,
                key=problem.key,
                problem=dataclasses.asdict(problem),
                dispatcher=dispatcher,
                wire=problem.wire or problem.held,
                chunks=request.chunks,
                reason=reason or "",
                expected=None if reason else _expected(forecast(dispatcher, setting), machine),
                moebench=metadata.version("moebench"),
                time=datetime.now(UTC).isoformat(timespec="seconds"),
            )


def beyond(tasks: Sequence[Task], suites: Mapping[str, Suite], machine: MachineDescription) -> Iterator[Prediction]:
    """Yield predictions that continue the lines of suites, given by name, beyond the ranks of this machine.

    Raises:
        InvalidProblem: as `predict`.
        InvalidMachine: as `predict`.
    """
    lines: dict[tuple[str, Problem], tuple[int, ...]] = {}
    for task in tasks:
        if further := suites[task.point.suite].beyond:
            problem = task.problem.replace(T=task.problem.tokens_per_rank, ranks=1, wire=None)
            lines[task.point.line, problem] = further
    for (series, problem), ranks in lines.items():
        yield from predict(PredictionRequest(series=series, problem=problem, machine=machine, ranks=ranks))


def _expected(found: Forecast, machine: MachineDescription) -> Expected:
    memory = found.memory
    return Expected(
        seconds=found.seconds,
        straggling=found.straggling,
        hidden_s=found.hidden_s,
        parts={part.name: Share(seconds=part.seconds, balanced_s=part.balanced_s) for part in found.parts},
        bound=found.bound,
        sent=Sent(itself=found.sent["self"], node=found.sent["node"], across=found.sent["across"]),
        messages=found.messages,
        memory=Held(
            weights=memory.weights,
            tokens=memory.tokens,
            buffers=memory.buffers,
            available=machine.memory.bytes.value,
        ),
    )
