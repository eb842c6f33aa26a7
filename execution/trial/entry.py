"""One competitor on its way through a trial: what is known of it so far, and whether it has failed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from pydantic import BaseModel

from ...kernels.block_kernel import competing
from ...kernels.config import Config
from ...kernels.kernel import Cost, Kernel, Layer
from ...kernels.problem import Problem
from ...kernels.unimportable import Unimportable
from ...results.record import Balance, Clocks, Cold, Error, Invariance, Roofline, Status, Work
from ...results.timing import device_functions
from ...results.timing.disturbance import host_clock
from ...results.timing.measure import Samples
from .across_ranks import gather
from .observers.sent_bytes import planned_traffic
from .reference_check import Subject
from .task import Competitor


@dataclass
class TrialEntry:
    """One competitor on its way through a trial; ``failure`` ends it.

    ``observed`` holds what observers found, by field of the record; ``replaced_clock`` which clock its code replaced.
    """

    index: int
    kernel: Kernel
    problem: Problem
    config: Config
    failure: tuple[Status, str] | None = None
    needed_bytes: int | None = None
    cost: Cost | None = None
    work: Work | None = None
    balance: Balance | None = None
    layer: Layer | None = None
    errors: dict[str, Error] = field(default_factory=dict)
    observed: dict[str, BaseModel] = field(default_factory=dict)
    samples: Samples | None = None
    clocks: Clocks | None = None
    energy_j: float | None = None
    cold: Cold | None = None
    replaced_clock: str = ""

    @staticmethod
    def of(index: int, competitor: Competitor, problem: Problem, device: torch.device) -> TrialEntry:
        """Return the entry of a competitor, which has failed already if its kernel refuses problem or configuration."""
        kernel = competing(competitor.kernel, problem)
        if refusal := kernel.supports(problem, device):
            status = Status.crashed if isinstance(kernel, Unimportable) else Status.unsupported
            return TrialEntry(index, kernel, problem, {}, failure=(status, refusal))
        solved = kernel.solves(problem)
        space, asked = kernel.space(solved, device), competitor.config or {}
        config = {**space[0], **asked}
        fault = _of_another_type(space, asked) or kernel.fault(solved, config, device)
        return TrialEntry(index, kernel, solved, config, failure=(Status.invalid, fault) if fault else None)

    @property
    def subject(self) -> Subject:
        return Subject(self.problem, self.kernel.question)

    @property
    def built(self) -> Layer:
        if self.layer is None:
            raise RuntimeError(f"{self.kernel.name} is asked for before it is built")
        return self.layer

    def beats(self, roofline: Roofline) -> bool:
        """Return whether the measured time is under the lower bound of its work."""
        if self.samples is None or self.work is None:
            return False
        return self.samples.median_ns < roofline.bound_ns(self.work)

    def look_at_clock(self) -> None:
        """Note whether this entry's code, which has just run, replaced a clock; give Python and torch their own."""
        for own in (host_clock, device_functions):
            if found := own.replaced():
                self.replaced_clock = found
                own.restore()

    def check_samples(self) -> None:
        """Fail the entry if its code replaced a clock, or if the machine has spoilt too many of its samples."""
        samples = self.samples
        if any(gather(bool(self.replaced_clock))):
            reason = self.replaced_clock or "a clock was replaced on another rank"
            self.failure = (Status.implausible, f"{reason}: only the machine's own clock tells a time")
            return
        if samples is None or (samples.enough and samples.quiet):
            return
        valid = len(samples.ns)
        if samples.disturbed > samples.throttled:
            what = samples.disturbances.most_common(1)[0][0].words
            of_all = f"{samples.disturbed} of {valid + samples.disturbed} samples were disturbed"
            self.failure = (Status.disturbed, f"{of_all}: {what}; `moebench doctor` shows what to do")
        else:
            self.failure = (Status.unstable, f"{samples.throttled} samples were throttled, {valid} were not")

    def check_traffic(self) -> None:
        """Fail the entry if the observed traffic is not the planned one."""
        if (sent := self.observed.get("traffic")) is None:
            return
        planned = planned_traffic(self.cost.traffic) if self.cost else None
        if sent != planned:
            self.failure = (Status.wrong, f"it sent {sent}, by its routes it should be {planned}")

    def check_guarantees(self) -> None:
        """Fail the entry if bits were seen to differ where the kernel guarantees the same ones."""
        seen = self.observed.get("invariance")
        for name, found in seen.properties.items() if isinstance(seen, Invariance) else ():
            if found.guaranteed and not found.same and self.failure is None:
                differs = f"{found.differs} differs in {found.where}"
                self.failure = (Status.wrong, f"its bits are guaranteed ({name}), but {differs}")


def _of_another_type(space: Sequence[Config], asked: Config) -> str | None:
    """Return None, or the first asked value whose type no configuration of the space has under this name."""
    for name, value in asked.items():
        known = {type(one[name]) for one in space if name in one}
        if known and type(value) not in known:
            return f"{name} = {value!r} is of the wrong type: {name} = {space[0][name]!r} is the default"
    return None


def alive(entries: Sequence[TrialEntry], subject: Subject | None = None) -> list[TrialEntry]:
    """Return the entries that have not failed, of one subject or of all."""
    return [entry for entry in entries if entry.failure is None and subject in (None, entry.subject)]


def subjects(entries: Sequence[TrialEntry]) -> list[Subject]:
    """Return the subjects of the entries that have not failed, in the same order on every rank."""
    return list(dict.fromkeys(entry.subject for entry in alive(entries)))
