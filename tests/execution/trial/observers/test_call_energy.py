"""Energy of a call: counted where a counter moves, in calls that nobody disturbs, and summed over devices."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from itertools import count, cycle
from typing import Any

import pytest
import torch
from small_tasks import task

from moebench.execution.trial import across_ranks, trial
from moebench.execution.trial.observers.call_energy import LEAST_BUDGET_S, TRIES, joules_of_call, with_energy
from moebench.execution.trial.task import Budget
from moebench.execution.trial.trial import TrialRunner
from moebench.results.record import CacheState, Clocks, Record
from moebench.results.timing.cpu_clock import CpuClock
from moebench.results.timing.disturbance import Disturbance, Span, Watch
from moebench.results.timing.eager_clock import EagerClock
from moebench.results.timing.energy import energy_per_run
from moebench.results.timing.energy.energy_counter import EnergyCounter
from moebench.suites.plan import BUDGETS

CPU = torch.device("cpu")
SHORT_S = 0.02


class DisturbedWatch(Watch):
    """Watch that finds what it watches disturbed in turn."""

    def __init__(self, disturbed: Sequence[bool] = (False,)) -> None:
        super().__init__()
        self._disturbed = cycle(disturbed)

    def stop(self) -> Span:
        return Span(1, Disturbance.others if next(self._disturbed) else Disturbance.none)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(energy_per_run, "ENERGY_MS", 5.0)
    monkeypatch.setattr(energy_per_run, "ENERGY_BATCH_MS", 1.0)
    monkeypatch.setattr(trial, "LEAST_BUDGET_S", SHORT_S)


def counter_of(made: list[None], joules: float) -> EnergyCounter:
    """Return a counter of so many joules a call."""
    return EnergyCounter(device="packages", tick_ms=0.01, read=lambda: joules * len(made))


def joules(made: list[None], counter: EnergyCounter, watch: Watch) -> float | None:
    return joules_of_call(lambda: made.append(None), counter, wait=lambda: None, watch=watch)


@pytest.mark.parametrize(
    ("disturbed", "found"), [([False], 3.0), ([True, True, False], 3.0), ([True], None)], ids=["quiet", "once", "busy"]
)
def test_it_is_that_of_calls_that_nobody_disturbed(disturbed: list[bool], found: float | None) -> None:
    made: list[None] = []
    assert joules(made, counter_of(made, 3.0), DisturbedWatch(disturbed)) == found


def test_it_gives_up_after_some_tries_and_where_the_counter_does_not_move() -> None:
    made: list[None] = []
    watch = DisturbedWatch([True] * TRIES + [False])
    assert joules(made, counter_of(made, 3.0), watch) is None
    assert joules(made, EnergyCounter(device="packages", tick_ms=1.0, read=lambda: 4.0), DisturbedWatch()) is None


def test_devices_of_several_ranks_are_added_up_each_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ranks 0 and 1 are on one machine: they share its packages, and have GPUs of their own."""
    others: list[list[float]] = []
    monkeypatch.setattr(across_ranks, "gather_floats", lambda mine: [[*mine], *others])
    mine = gathered("packages", 5.0)
    others = [mine, [mine[0] + 1, mine[1], 7.0]]
    assert across_ranks.sum_of_devices("packages", 5.0) == 12.0
    others = [[mine[0], mine[1] + 1, 2.0]]
    assert across_ranks.sum_of_devices("packages", 5.0) == 7.0
    assert across_ranks.sum_of_devices("packages", None) is None
    others = [[mine[0], mine[1] + 1, float("nan")]]
    assert across_ranks.sum_of_devices("packages", 5.0) is None


def gathered(device: str, value: float) -> list[float]:
    """Return what a rank of this machine tells the others."""
    found: list[float] = []

    def gather(mine: list[float]) -> list[list[float]]:
        found.extend(mine)
        return [mine]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(across_ranks, "gather_floats", gather)
        across_ranks.sum_of_devices(device, value)
    return found


def test_a_state_keeps_its_readings_beside_the_energy() -> None:
    assert with_energy(None, None) is None
    assert with_energy(None, 2.0) == Clocks(energy_j=2.0)
    assert with_energy(Clocks(sm_mhz=5, energy_j=None), 2.0) == Clocks(sm_mhz=5, energy_j=2.0)
    assert with_energy(Clocks(energy_j=3.0), None) == Clocks(energy_j=3.0)


def measured(counter: EnergyCounter | None, cache: CacheState = "cold", **changes: Any) -> Record:
    eager = EagerClock(1 << 20, None, wait=lambda: None, slowest=lambda value: value)
    runner = TrialRunner(CPU, {"cold": CpuClock(), "eager": eager}, energy=counter)
    asked = task("scatter", cache=cache)
    budget = Budget(seconds=SHORT_S)
    return runner.run(dataclasses.replace(asked, **{"budget": budget, **changes}), lambda _: None)[0]


@pytest.mark.parametrize("cache", ["cold", "eager"])
def test_a_record_has_the_joules_of_its_call_where_the_device_counts_them(cache: CacheState) -> None:
    read = count()
    counter = EnergyCounter(device="packages", tick_ms=0.01, read=lambda: float(next(read)))
    record = measured(counter, cache)
    assert record.clocks is not None
    assert record.clocks.energy_j is not None
    assert record.clocks.energy_j > 0
    assert record.clocks.model_dump(exclude_none=True, exclude={"energy_j", "unread"}) == {}
    assert measured(None, cache).clocks is None


@pytest.mark.parametrize(
    "changes",
    [{"budget": Budget(seconds=SHORT_S / 2)}, {"budget": Budget(seconds=10.0, samples=2)}],
    ids=["short budget", "few samples"],
)
def test_where_samples_are_to_take_little_time_no_energy_is_counted(changes: dict[str, Any]) -> None:
    def forbidden() -> float:
        raise AssertionError("read")

    assert measured(EnergyCounter(device="packages", tick_ms=1.0, read=forbidden), **changes).clocks is None


def test_a_search_counts_no_energy() -> None:
    point = task("scatter").point.model_copy(update={"stage": "final", "batch": 0})
    read = count()
    counter = EnergyCounter(device="packages", tick_ms=0.01, read=lambda: float(next(read)))
    assert measured(counter, point=point).clocks is None


def test_the_budgets_that_count_are_those_of_the_small_and_the_full_form() -> None:
    """In the reduced form, of two minutes on a GPU, counting would double the time of a trial."""
    assert {size for size, budget in BUDGETS.items() if budget.seconds >= LEAST_BUDGET_S} == {"small", "full"}
