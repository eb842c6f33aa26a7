"""Resuming: a record counts when it is of the sources, the configuration and the clock that are asked for now."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from records import ENVIRONMENT, TIMING, record
from small_tasks import PROBLEM, task

from moebench.execution.trial.task import Task
from moebench.kernels.catalog import KERNELS
from moebench.kernels.config import Config
from moebench.kernels.tuned.source_hash import source_hash
from moebench.results.record import Record, Stages, Status
from moebench.suites.resume import pending

DEFAULT = KERNELS.load("scatter").space(PROBLEM, torch.device("cpu"))[0]
THERE = ENVIRONMENT.model_copy(update={"threads": torch.get_num_threads()})


def held(kernel: str, config: Config, **changes: Any) -> Record:
    """Return a record of the one task that these tests ask for, by the kernel as it is now."""
    fields: dict[str, Any] = {"point": task().point, "key": PROBLEM.key, "kernel": kernel, "config": dict(config)}
    return record(**fields | {"source": source_hash(kernel), "environment": THERE} | changes)


def left(asked: Task, records: Sequence[Record]) -> list[str]:
    return [who.kernel for one in pending([asked], records, "cpu").tasks for who in one.competitors]


def tuned(config: Config) -> Task:
    asked = task("scatter")
    (who,) = asked.competitors
    return dataclasses.replace(asked, competitors=(dataclasses.replace(who, config=config),))


def test_only_what_the_records_lack_is_left() -> None:
    records = [held("loop", {}), held("scatter", DEFAULT)]
    assert left(task("loop", "scatter"), records) == []
    assert left(task("loop", "padded", "scatter"), records) == ["padded"]
    assert left(task("loop", x=2.0), records) == ["loop"]
    assert left(task("loop", problem=PROBLEM.replace(T=32)), records) == ["loop"]
    assert left(task("loop", cache="eager"), records) == ["loop"]


def test_a_changed_kernel_is_measured_again_and_that_is_said_once() -> None:
    old = [held("scatter", DEFAULT, source="0123", point=task(x=x).point) for x in (1.0, 2.0)]
    asked = [task("scatter", x=x) for x in (1.0, 2.0, 3.0)]
    found = pending(asked, old, "cpu")
    assert found.tasks == asked
    assert found.notes == ["2 records are of an earlier scatter: measured again"]
    assert pending(asked[:1], [*old, held("scatter", DEFAULT)], "cpu").tasks == []


def test_what_has_no_stages_is_measured_again_where_these_are_asked_for() -> None:
    asked, stages = task("loop"), Stages(stages_ns={"up": 1.0}, whole_ns=2.0)
    found = pending([dataclasses.replace(asked, asks=("stages",))], [held("loop", {})], "cpu")
    assert found.notes == ["1 record is of calls whose stages were not timed: measured again"]
    assert len(found.tasks) == 1
    with_stages = held("loop", {}, stages=stages)
    assert left(dataclasses.replace(asked, asks=("stages",)), [held("loop", {}), with_stages]) == []
    assert left(asked, [with_stages]) == []
    refused = held("loop", {}, status=Status.unsupported, reason="no", timing=None)
    assert left(dataclasses.replace(asked, asks=("stages",)), [refused]) == []


def test_another_configuration_is_measured_again_and_that_is_said() -> None:
    other = {**DEFAULT, "tile": 16}
    assert DEFAULT["tile"] != 16
    found = pending([tuned({"tile": 16})], [held("scatter", DEFAULT)], "cpu")
    assert found.notes == ["1 record is of another configuration of scatter: measured again"]
    assert pending([tuned({"tile": 16})], [held("scatter", other)], "cpu").tasks == []
    assert left(task("scatter"), [held("scatter", other)]) == ["scatter"]


@pytest.mark.parametrize(
    ("held_samples", "stopped", "wanted", "again"),
    [
        (3, "enough", 3, False),
        (3, "enough", 2, False),
        (3, "enough", 50, True),
        (3, "enough", None, True),
        (30, "settled", 50, False),
    ],
)
def test_too_few_samples_are_taken_again_and_what_is_kept_is_said(
    held_samples: int, stopped: str, wanted: int | None, again: bool
) -> None:
    timing = TIMING.model_copy(update={"samples_ns": [1e6] * held_samples, "stopped": stopped})
    asked = task("scatter")
    asked = dataclasses.replace(asked, budget=dataclasses.replace(asked.budget, samples=wanted))
    found = pending([asked], [held("scatter", DEFAULT, timing=timing)], "cpu")
    assert found.tasks == ([asked] if again else [])
    assert found.notes == [
        "1 record is of fewer samples than are asked for: measured again"
        if again
        else "1 of 1 trial is in the file already: kept"
    ]


@pytest.mark.parametrize(("status", "config"), [(Status.unsupported, {}), (Status.timeout, {"tile": 16})])
def test_a_refusal_and_a_death_are_not_measured_again(status: Status, config: Config) -> None:
    failed = held("scatter", config, status=status, reason="because", timing=None)
    assert left(tuned({"tile": 16}), [failed]) == []


def test_a_death_in_the_default_says_nothing_of_a_tuned_configuration() -> None:
    died = held("scatter", {}, status=Status.crashed, reason="it died", timing=None)
    assert left(task("scatter"), [died]) == []
    assert left(tuned({"tile": 16}), [died]) == ["scatter"]


def test_a_default_that_follows_the_threads_is_that_of_the_worker() -> None:
    """Workers of several ranks share the cores; their defaults are not those of this process."""
    alone = held("scatter", {**DEFAULT, "threads": 1}, environment=THERE.model_copy(update={"threads": 1}))
    assert left(task("scatter"), [alone]) == []
