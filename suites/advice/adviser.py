"""The adviser: for each phase of a mix of traffic the dispatch to use, for the mix what that takes, and how sure it is.

Sources in order: records of the device, tuned tables, the static model. A phase has the times of one source only.
"""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata

from ...common.errors import UserError
from ...kernels.problem import Problem
from ...kernels.problem.models import Model
from ...kernels.tuned.select import TRUSTED
from ...results.record import Record
from ...results.record.advice import (
    Advice,
    AdviceSource,
    Certainty,
    DispatchOption,
    PhaseAdvice,
    Unmeasured,
)
from ..layer import Layer
from .advised_device import AdvisedDevice
from .expert_size import expert_size
from .mix_totals import MILLION, cost, mix_of
from .predicted_times import predicted_times
from .recorded_times import RecordedTimes
from .table_times import TableTimes
from .timed_dispatch import PhaseTimes, TimedDispatch, margin
from .traffic_mix import TrafficPhase

NAMED = 4  # layers of records that an error lists


class NoSuchRecords(UserError, ValueError):
    """An error in what records are given: none is of the layer or of the device."""


@dataclass(frozen=True, kw_only=True)
class AdviceRequest:
    """Request for advice: a layer used as its problem says, the mix of traffic, the device and what is known.

    ``model`` is the one whose layer it is, None for another shape or width. ``price`` is that of the device for an
    hour. ``words`` are those of the command line that describe the problem, for a command that measures it.
    """

    layer: Layer
    problem: Problem
    model: Model | None
    traffic: Sequence[TrafficPhase]
    device: AdvisedDevice
    records: Sequence[Record] = ()
    price: float | None = None
    words: Sequence[str] = ()

    @property
    def layers(self) -> int | None:
        """Number of the model's MoE layers."""
        return None if self.model is None else self.model.layers

    def problem_of(self, phase: TrafficPhase) -> Problem:
        """Return the problem of one call of a phase."""
        return self.problem.replace(T=phase.tokens, mode=phase.mode)


def advise(request: AdviceRequest) -> Advice:
    """Return the advice.

    Raises:
        NoSuchRecords: when there are records and none is of the layer on the device.
        InvalidProblem: when a phase is not possible for the layer.
    """
    device = request.device
    problems = [request.problem_of(phase) for phase in request.traffic]
    records = [record for record in request.records if record.environment.device == device.name]
    recorded = RecordedTimes(records)
    if request.records and not any(recorded.has(problem) for problem in problems):
        raise NoSuchRecords(_missing(request, problems[0], recorded))
    tables = TableTimes(records, device)
    phases, timed, unknown = [], [], []
    for phase, problem in zip(request.traffic, problems, strict=True):
        found = recorded.of(problem) or tables.of(problem) or predicted_times(problem, device)
        if request.records and found.source in (AdviceSource.predicted, None):
            found = found.without(recorded.lack(problem))
        advice, dispatches = _phase(phase, problem, found.fastest_first(), request)
        if found.source is not AdviceSource.predicted and advice.options:
            advice = advice.model_copy(update={"unmeasured": _unmeasured(problem, found, advice, device)})
        phases.append(advice)
        if not found.dispatches:
            unknown.append(advice)
        timed.append(dispatches)
    return Advice(
        layer=request.layer.title,
        problem=dataclasses.asdict(problems[0]),
        device=device.name,
        memory_bytes=device.memory_bytes,
        price_per_hour=request.price,
        phases=phases,
        mix=mix_of(phases, timed, layers=request.layers, price=request.price),
        experts=expert_size(request.problem, request.model, device.memory_bytes),
        command=_command(request, phases, unknown),
        notes=_notes(request, recorded.environments(problems)),
        moebench=metadata.version("moebench"),
        time=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def _missing(request: AdviceRequest, problem: Problem, recorded: RecordedTimes) -> str:
    wanted = f"D={problem.D} F={problem.F} E={problem.E} K={problem.K} {problem.dtype}"
    layers = recorded.layers
    more = f" and {len(layers) - NAMED} more" if len(layers) > NAMED else ""
    there = "; ".join(layers[:NAMED]) + more
    have = f"they have {there}" if layers else "they have none of that device"
    return (
        f"no record of {request.device.name} is of {request.layer.title} ({wanted}) in a mode of the traffic: {have}; "
        "change what is asked, or leave --records out"
    )


def _phase(
    phase: TrafficPhase, problem: Problem, found: PhaseTimes, request: AdviceRequest
) -> tuple[PhaseAdvice, list[TimedDispatch]]:
    """Return the advice for a phase, and the dispatches that can run it, the fastest first."""
    left_out, fitting = list(found.left_out), []
    for one in found.dispatches:
        needed, memory = call_bytes(problem, one), request.device.memory_bytes
        if memory is not None and needed is not None and needed > memory:
            left_out.append(f"{one.kernel}: a call needs {needed / 2**30:.4g} GiB, there are {memory / 2**30:.4g}")
        else:
            fitting.append(one)
    margins = [margin(fitting[0], other) for other in fitting[1:]]
    certainties = [None, *(one.certainty for one in margins)]
    options = [_option(problem, one, sure, request) for one, sure in zip(fitting, certainties, strict=False)]
    advice = PhaseAdvice(
        phase=phase.name,
        tokens=phase.tokens,
        share=phase.share,
        key=problem.key,
        options=options,
        margin=margins[0] if margins else None,
        left_out=left_out,
        reason="" if options else "; ".join(left_out) or f"no kernel has times for {phase} on {request.device.name}",
    )
    return advice, fitting


def _unmeasured(problem: Problem, found: PhaseTimes, advice: PhaseAdvice, device: AdvisedDevice) -> list[Unmeasured]:
    """Return the dispatches without a time that should be faster by as much as `auto` trusts predictions."""
    known, least = {one.kernel for one in found.dispatches}, TRUSTED * advice.options[0].seconds
    predicted = predicted_times(problem, device).fastest_first().dispatches
    return [
        Unmeasured(kernel=one.kernel, seconds=one.seconds)
        for one in predicted
        if one.kernel not in known and one.seconds < least
    ]


def call_bytes(problem: Problem, one: TimedDispatch) -> int | None:
    """Return the bytes that a call needs: its inputs and what it allocates; None where that is unknown."""
    return None if one.peak_bytes is None else problem.input_bytes + one.peak_bytes


def _option(
    problem: Problem, one: TimedDispatch, certainty: Certainty | None, request: AdviceRequest
) -> DispatchOption:
    tokens_per_s = problem.T / one.seconds
    return DispatchOption(
        kernel=one.kernel,
        config=dict(one.config),
        source=one.source,
        basis=one.basis,
        seconds=one.seconds,
        model_seconds=None if request.layers is None else one.seconds * request.layers,
        low_s=one.interval.low if one.interval else None,
        high_s=one.interval.high if one.interval else None,
        tokens_per_s=tokens_per_s,
        model_tokens_per_s=None if request.layers is None else tokens_per_s / request.layers,
        peak_bytes=one.peak_bytes,
        call_bytes=call_bytes(problem, one),
        cost_per_million=cost(MILLION / tokens_per_s, request.layers, request.price),
        certainty=certainty,
    )


def _command(request: AdviceRequest, phases: Sequence[PhaseAdvice], unknown: Sequence[PhaseAdvice]) -> str:
    """Return the command that measures what was not measured side by side: the first dispatches, or all of a phase."""
    open_ones = [phase for phase in phases if phase in unknown or _open(phase)]
    if not open_ones or not request.words:
        return ""
    kernels: dict[str, None] = {}
    for phase in open_ones:
        kernels |= dict.fromkeys(option.kernel for option in phase.options[:2])
        kernels |= dict.fromkeys(other.kernel for other in phase.unmeasured)
    tokens = ",".join(str(T) for T in sorted({phase.tokens for phase in open_ones}))
    modes = ",".join(dict.fromkeys("train" if phase.phase == "train" else "forward" for phase in open_ones))
    named = [] if unknown else ["--kernel", ",".join(kernels)]
    words = [*request.words, "--tokens", tokens, "--mode", modes, *named]
    return shlex.join(["moebench", "run", "models", *words, "--output", "advised.jsonl"])


def _open(phase: PhaseAdvice) -> bool:
    """Return whether measuring side by side would tell more than is known."""
    if phase.unmeasured:
        return True
    if phase.margin is None:
        return False
    return phase.options[0].source is not AdviceSource.measured or phase.margin.certainty is Certainty.unclear


def _notes(request: AdviceRequest, environments: int) -> list[str]:
    notes = [f"{request.layer.name}: {request.layer.note}"] if request.layer.note else []
    if environments > 1:
        notes.append(
            f"the records are of {environments} environments, which differ in versions or threads: a time is of the "
            "newest that has the tokens of its phase"
        )
    if request.model is None:
        notes.append("times and costs are of one layer: the model, and with it the number of its layers, is not known")
    if request.price is not None:
        notes.append("costs are of the MoE layers alone: attention, other layers and idle time come on top")
    return notes
