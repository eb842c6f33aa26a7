"""Stages of calls that nobody disturbed: those of the call of median time, and of several ranks their mean."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from itertools import count, cycle
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
from moebench.results.timing.cuda_clock import MAX_BLOCK_MS
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
    device: Any = torch.device("cpu")

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


def test_what_names_no_stage_is_unattributed_as_a_whole() -> None:
    class Peer(Observed):
        def __call__(self) -> None:
            self.made += 1

    observed: Any = Peer()
    found = StageObserver().observe(observed, DisturbedWatch())
    assert found is not None
    assert found.stages_ns == {}
    assert found.unattributed_ns == found.whole_ns > 0


def test_on_a_gpu_launches_are_hidden_for_twice_as_long_as_the_last_call_took_to_enqueue(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With a device that only counts, every microsecond an event: nothing waits for it between the first and last."""
    log: list[str] = []
    busy: list[float] = []
    number = count()

    class Counted:
        def __init__(self, *, enable_timing: bool) -> None:
            assert enable_timing

        def record(self) -> None:
            self.at = next(number)
            log.append("event")

        def synchronize(self) -> None:
            log.append("read")

        def elapsed_time(self, end: Counted) -> float:
            return 1e-3 * (end.at - self.at)

    monkeypatch.setattr(torch.cuda, "Event", Counted)
    monkeypatch.setattr(torch.cuda.nvtx, "range_push", lambda _: None)
    monkeypatch.setattr(torch.cuda.nvtx, "range_pop", lambda: None)
    monkeypatch.setattr(stage_times, "synchronize", lambda: log.append("wait"))
    monkeypatch.setattr(stage_times, "keep_busy", busy.append)
    observed: Any = Observed(device=torch.device("cuda"))
    found = StageObserver().observe(observed, DisturbedWatch())
    assert found is not None
    assert found.whole_ns == pytest.approx(3e3)
    assert found.stages_ns == {"up": pytest.approx(1e3)}
    assert len(busy) == 1 + stage_times.CALLS
    assert busy[0] == 0
    assert all(0 < ms <= MAX_BLOCK_MS for ms in busy[1:])
    assert log[:6] == ["wait", "event", "event", "event", "event", "wait"]


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
