"""Choice of the kernel and the configuration for a problem.

Tuned tables hold measured times; on a CPU the cost model predicts those of all other kernels; else an order of
preference decides.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from ...common.names import unknown
from ..catalog import KERNELS
from ..config import Config
from ..cost_model.expert_rows import expected_routing, rows_of_experts, skewed_routing
from ..kernel import Kernel, Layer
from ..problem import Problem
from ..problem.routing import Routing
from ..problem.tensors import Weights
from ..problem.trace import PREFIX
from ..steps import Rates
from .kept_rates import rates_here
from .lookup import Found, look_up, stale_wanted

AUTO = "auto"
CPU = torch.device("cpu")
# A kernel that was not measured takes the place of a measured one where its prediction is under this share of the
# measured time. Predictions were between 0.7 and 1.3 of the times of the kernels that are ever the fastest.
TRUSTED = 0.75
# A kernel that takes so many times longer when one expert has all tokens runs only in calls that are not like that.
SKEWED = 1.5


def check_dispatch(dispatch: str) -> None:
    """Check a name that `choose` is to be given.

    Raises:
        UnknownName: when it is neither ``auto`` nor the name of a kernel.
    """
    names = [AUTO, *KERNELS.names()]
    if dispatch not in names:
        raise unknown("kernel", dispatch, names)


class Skewed(NamedTuple):
    """Replacement of a kernel that pads in a call whose fullest expert has more than ``most_rows``."""

    kernel: Kernel
    config: Config
    most_rows: int


class Choice(NamedTuple):
    """A kernel, its configuration, the reason for both, and what runs instead where the load is too uneven for it."""

    kernel: Kernel
    config: Config
    why: str
    skewed: Skewed | None = None

    def build(self, problem: Problem, device: torch.device) -> Layer:
        """Build the layer. Where another kernel may have to run, every call counts its rows first."""
        layer = self.kernel.build_for_any_routes(problem, self.config, device)
        if self.skewed is None:
            return layer
        otherwise = self.skewed.kernel.build_for_any_routes(problem, self.skewed.config, device)
        most_rows = self.skewed.most_rows

        def by_load(x_TD: Tensor, routing: Routing, weights: Weights) -> Tensor:
            fullest = int(routing.counts_E().max())
            return (layer if fullest <= most_rows else otherwise)(x_TD, routing, weights)

        return by_load


def choose(
    problem: Problem,
    device: torch.device,
    dispatch: str = AUTO,
    *,
    nearest: bool = False,
    only: Callable[[Kernel], bool] = lambda _: True,
) -> Choice:
    """Return the kernel of that name, or for ``auto`` the fastest one, tuned for the problem.

    A named kernel without a tuned table for the problem runs in its first valid configuration. Among all others
    ``auto`` takes the fastest of those that tables cover, and on a CPU one that the cost model expects to need less
    than `TRUSTED` of its time. Where no table covers any, the model decides on a CPU, and on other devices the order of
    `Kernel.preference`. Tables of other versions count only with MOEBENCH_TUNED_STALE=1. With ``nearest`` tables of the
    most similar load count where none is of the problem's load (`look_up`). ``only`` says which kernels ``auto`` may
    take.

    Raises:
        UnknownName: when no kernel has that name.
        ValueError: when no kernel can run the problem, with the reason of each that was tried.
    """
    reasons: list[str] = []
    names = [name for name in candidates(device) if only(KERNELS.load(name))] if dispatch == AUTO else [dispatch]
    able = list(_able(names, problem, device, reasons))
    if not able:
        remedy = "change what is named here" + ("" if dispatch == AUTO else f", or try dispatch = {AUTO!r}")
        raise ValueError(f"no kernel can run this; {'; '.join(reasons)}; {remedy}")
    answers = {
        one.kernel.name: look_up(problem, one.kernel.name, device, stale=stale_wanted(), nearest=nearest)
        for one in able
    }
    covered = [(one, found) for one in able if isinstance(found := answers[one.kernel.name], Found)]
    open_ones = [one for one in able if not isinstance(answers[one.kernel.name], Found)]
    model = TimeModel.of(problem, device) if device.type == "cpu" and dispatch == AUTO else None
    if model:
        covered = [(one, model.under_own_load(one.kernel, found)) for one, found in covered]
    measured = min(covered, key=lambda pair: pair[1].seconds, default=None)
    ranked = model.ranked(open_ones) if model else []
    if measured is not None:
        kernel, found = measured[0].kernel, measured[1]
        if model is None or not ranked or ranked[0].seconds >= TRUSTED * found.seconds:
            return Choice(kernel, found.config, found.why)
        tuned_ms = f"{kernel.name} takes {found.seconds * 1e3:.3g} ms as tuned"
        return model.choice(ranked, f"{model.why(ranked)}; {tuned_ms}")
    if model is None or not ranked:
        first = able[0]
        return first._replace(why=f"{first.why}; {_reason(answers[first.kernel.name])}")
    return model.choice(ranked, f"{model.why(ranked)}; {_reason(answers[ranked[0].kernel.name])}")


def candidates(device: torch.device) -> tuple[str, ...]:
    """Return the kernels that ``auto`` may choose, in the order of preference; those without a place come last.

    On a CPU these are the kernels with a cost model, which decides between them, and those with a place.
    """
    placed = [kernel.name for kernel in KERNELS.preferred(device.type)]
    others = map(KERNELS.load, KERNELS.names()) if device.type == "cpu" else ()
    modelled = [kernel.name for kernel in others if "cpu" in kernel.devices and _has_model(kernel)]
    return (*placed, *(name for name in modelled if name not in placed))


class Predicted(NamedTuple):
    """A kernel in the configuration that is the fastest by the cost model."""

    kernel: Kernel
    config: Config
    seconds: float


@dataclass(frozen=True, kw_only=True)
class TimeModel:
    """The cost model of a CPU for one problem, at rates that come from ``source``."""

    problem: Problem
    rates: Rates
    source: str
    device: torch.device
    routing: Routing = field(repr=False)

    @staticmethod
    def of(problem: Problem, device: torch.device) -> TimeModel:
        """Return the model at the rates of this machine, for the counts to expect under the problem's load."""
        rates, source = rates_here(problem)
        return TimeModel(problem=problem, rates=rates, source=source, device=device, routing=expected_routing(problem))

    def ranked(self, able: Sequence[Choice]) -> list[Predicted]:
        """Return those kernels that have a model, the fastest first; among equals the order is kept."""
        found = [predicted for one in able if (predicted := self._best(one.kernel, one.config)) is not None]
        return sorted(found, key=lambda one: one.seconds)

    def seconds(self, kernel: Kernel, config: Config, routing: Routing | None = None) -> float | None:
        """Return the predicted time of a call; None for a kernel without a model."""
        steps = kernel.steps(self.problem, config, routing or self.routing, self.device)
        return sum(step.seconds(self.rates) for step in steps) if steps else None

    def under_own_load(self, kernel: Kernel, found: Found) -> Found:
        """Return what was found under a load that stood for the problem's, with the time to expect under its own.

        The measured time changes as the predicted one does. A recorded load changes nothing, nor does it for a kernel
        without a model.
        """
        if not found.instead or found.instead.startswith(PREFIX):
            return found
        here = self.seconds(kernel, found.config)
        there = self.seconds(kernel, found.config, expected_routing(self.problem.replace(load=found.instead)))
        return dataclasses.replace(found, seconds=found.seconds * here / there) if here and there else found

    def choice(self, ranked: Sequence[Predicted], why: str) -> Choice:
        """Return the first of some kernels, and another for calls in which its padding would cost more."""
        best = ranked[0]
        return Choice(best.kernel, best.config, why, self._skewed(ranked))

    def why(self, ranked: Sequence[Predicted]) -> str:
        """Return the predictions in words."""
        best, *others = ranked
        after = f", then {others[0].kernel.name} {others[0].seconds * 1e3:.3g} ms" if others else ""
        return f"the fastest of {len(ranked)} by the cost model with {self.source}: {best.seconds * 1e3:.3g} ms{after}"

    def _best(self, kernel: Kernel, default: Config) -> Predicted | None:
        """Return the fastest of the default and what it becomes when one axis after the other takes its best value."""
        seconds = self.seconds(kernel, default)
        if seconds is None:
            return None
        best = Predicted(kernel, default, seconds)
        space = {tuple(config.items()): config for config in kernel.space(self.problem, self.device)}
        values = {axis: dict.fromkeys(config[axis] for config in space.values()) for axis in default}
        for axis in default:
            start = best.config
            for value in values[axis]:
                config = space.get(tuple({**start, axis: value}.items()))
                if config is None or config == start or not kernel.valid(self.problem, config, self.device):
                    continue
                predicted = self.seconds(kernel, config)
                if predicted is not None and predicted < best.seconds:
                    best = Predicted(kernel, config, predicted)
        return best

    def _skewed(self, ranked: Sequence[Predicted]) -> Skewed | None:
        """Return the kernel that is the fastest when one expert has all tokens, and up to where the first one is."""
        problem, best = self.problem, ranked[0]
        if problem.capacity is not None or problem.T == 0:
            return None
        low, high = max(rows_of_experts(self.routing)), problem.T
        if low >= high or self._when(best, high) < SKEWED * best.seconds:
            return None
        other = min(ranked, key=lambda one: self._when(one, high))
        if other is best:
            return None
        while high - low > max(1, low // 16):  # to a sixteenth
            middle = (low + high) // 2
            low, high = (middle, high) if self._when(best, middle) <= self._when(other, middle) else (low, middle)
        return Skewed(other.kernel, other.config, low)

    def _when(self, one: Predicted, fullest: int) -> float:
        return self.seconds(one.kernel, one.config, skewed_routing(self.problem, fullest)) or one.seconds


def _able(names: Sequence[str], problem: Problem, device: torch.device, reasons: list[str]) -> Iterator[Choice]:
    """Yield the kernels that can run the problem, in their defaults; add to ``reasons`` why the others cannot."""
    for name in names:
        kernel = KERNELS.load(name)
        reason = kernel.supports(problem, device)
        if reason is None and not kernel.answers(problem):
            reason = "is a reference rate, which computes something else"
        if reason is None:
            for config in kernel.space(problem, device):
                if kernel.valid(problem, config, device):
                    yield Choice(kernel, config, "the kernel's default")
                    break
            else:
                reason = f"has no valid configuration for {problem.key} on {device}"
        if reason is not None:
            reasons.append(f"{name}: {reason}")


def _has_model(kernel: Kernel) -> bool:
    return type(kernel).steps is not Kernel.steps


def _reason(answer: object) -> str:
    return getattr(answer, "reason", "")
