"""Stages of calls that nobody disturbed: those of the call of median time, and of several ranks their mean."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from itertools import cycle
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from small_tasks import PROBLEM, task

from moebench.execution.trial.observers import stage_times
from moebench.execution.trial.observers.stage_times import StageObserver
from moebench.execution.trial.task import Budget
from moebench.execution.trial.trial import TrialRunner
from moebench.kernels.instruments.stage import StageName, stage
from moebench.results.record import Record
from moebench.results.timing.disturbance import Disturbance, Span, Watch


class DisturbedWatch(Watch):
    """Watch that finds calls disturbed in turn."""

    def __init__(self, disturbed: Sequence[bool] = (False,)) -> None:
        super().__init__()
        self._disturbed = cycle(disturbed)

    def stop(self) -> Span:
        return Span(1, Disturbance.others if next(self._disturbed) else Disturbance.none)


class Observed(SimpleNamespace):
    """A call on a CPU that counts how often it was made."""

    made = 0
    layer = None
    device = torch.device("cpu")

    def __call__(self) -> None:
        self.made += 1
        with stage("up"):
            pass


@pytest.mark.parametrize(
    ("disturbed", "calls"),
    [
        ([False], 1 + stage_times.CALLS),
        ([True, False], 1 + 2 * stage_times.CALLS - 1),
        ([True], 1 + stage_times.MOST_CALLS),
    ],
    ids=["quiet", "half", "busy"],
)
def test_disturbed_calls_are_made_again(disturbed: list[bool], calls: int) -> None:
    """The first call is not counted, whoever disturbs it."""
    observed: Any = Observed()
    found = StageObserver().observe(observed, DisturbedWatch(disturbed))
    assert observed.made == calls
    assert (found is None) is all(disturbed)


def recording(stages_ns: dict[StageName, float], whole_ns: float) -> Any:
    return SimpleNamespace(times_ns=lambda: (stages_ns, whole_ns))


def test_the_call_of_median_time_is_kept_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """Medians of each stage would be of different calls, and add up to none."""
    calls = [recording({"up": up}, whole) for up, whole in ((9.0, 9.0), (1, 50), (20, 30), (2, 40), (3, 10), (4, 20))]
    each = iter(calls)
    monkeypatch.setattr(stage_times, "_recorded", lambda *_: (next(each), 0.0, True))
    observed: Any = Observed()
    found = StageObserver().observe(observed, DisturbedWatch())
    assert found is not None
    assert (found.stages_ns, found.whole_ns, found.unattributed_ns) == ({"up": 20.0}, 30.0, 10.0)


def test_of_several_ranks_it_is_the_mean_also_of_stages_that_one_has_not(monkeypatch: pytest.MonkeyPatch) -> None:
    names = stage_times.NAMES
    other = [30.0, *(20.0 if name == "waiting" else -1.0 for name in names)]
    monkeypatch.setattr(stage_times, "gather_floats", lambda mine: [mine, other])
    whole_ns, stages_ns = stage_times._mean_of_ranks(recording({"up": 6.0}, 10.0))
    assert (whole_ns, stages_ns) == (20.0, {"up": 3.0, "waiting": 10.0})


def measured(runner: TrialRunner, *, asks: bool, samples: int | None = None) -> Record:
    asked = dataclasses.replace(
        task("scatter", problem=PROBLEM.replace(mode="train")),
        asks=("stages",) if asks else (),
        budget=Budget(seconds=0.02, samples=samples),
    )
    return runner.run(asked, lambda _: None)[0]


@pytest.mark.parametrize("samples", [None, 3], ids=["as many samples as noise asks for", "three"])
def test_a_trial_has_stages_where_its_task_asks_for_them(runner: TrialRunner, samples: int | None) -> None:
    assert measured(runner, asks=False, samples=samples).stages is None
    stages = measured(runner, asks=True, samples=samples).stages
    assert stages is not None
    assert stages.stages_ns.keys() == {"dispatch", "up", "activation", "down", "combine", "backward"}
    assert sum(stages.stages_ns.values()) + stages.unattributed_ns == pytest.approx(stages.whole_ns)
