"""The Ray executor: two actors on this machine, one of which is killed in the middle of a task."""

from __future__ import annotations

import importlib
import importlib.util
import os
import signal
import socket
import sys
import threading
from pathlib import Path

import pytest
from small_tasks import task

from moebench.common.packages import Unusable
from moebench.execution.workers.executor import ExecutorError
from moebench.execution.workers.ray_executor import RaySlot, ray_executor
from moebench.results.record import Status

SUPPORT = Path(__file__).parents[2] / "support"


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="ray is not installed; it is in the extra ray")
@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="two actors want a core each")
def test_a_killed_actor_loses_no_task_and_answers_none_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two actors have a hanging task each; one actor is killed, its task starts again elsewhere, the others follow."""
    monkeypatch.setenv("PYTHONPATH", str(SUPPORT))  # for the kernels that crash and hang
    with ray_executor("cpu", [], slots=2) as executor:
        ray = importlib.import_module("ray")
        assert {node["NodeManagerAddress"] for node in ray.nodes()} == {"127.0.0.1"}
        assert executor.slots == 2
        assert executor.environment.cores == len(os.sched_getaffinity(0)) // 2
        for x in range(2):
            executor.submit(task("Hangs", x=float(x), timeout_s=2.0))
        for x in range(2, 6):
            executor.submit(task("loop", "scatter", x=float(x)))
        executor.submit(task("loop", "Dies", x=6.0))
        killed = next(iter(executor._slots.values()))
        assert isinstance(killed, RaySlot)
        actor = ray.get(killed._actor.__ray_call__.remote(lambda _: os.getpid()))
        (worker,) = ray.get(killed._actor.__ray_call__.remote(lambda self: [w.pid for w in self._workers]))
        threading.Timer(0.7, os.kill, (actor, signal.SIGKILL)).start()
        found = {finished.task.point.x: finished.records for finished in (executor.next() for _ in range(7))}
        with pytest.raises(LookupError):
            executor.next()
        (loss,) = executor.losses
        assert "actor 0" in loss
        assert not _runs(worker)
    assert not ray.is_initialized()
    statuses = {x: sorted((record.kernel, record.status) for record in records) for x, records in found.items()}
    assert statuses == {
        **{float(x): [("Hangs", Status.timeout)] for x in range(2)},
        **{float(x): [("loop", Status.passed), ("scatter", Status.passed)] for x in range(2, 6)},
        6.0: [("Dies", Status.crashed), ("loop", Status.passed)],
    }


@pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="ray is not installed; it is in the extra ray")
def test_an_address_without_a_listener_is_refused_at_once() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    with pytest.raises(ExecutorError, match=f"does not answer at {address}"), ray_executor("cpu", [], address=address):
        pass


def test_without_ray_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with (
        pytest.raises(Unusable, match=r"^ray is not installed; pip install 'moebench\[ray\]'"),
        ray_executor("cpu", []),
    ):
        pass


def _runs(process: int) -> bool:
    """Return whether a process exists and is no zombie."""
    command = Path(f"/proc/{process}/cmdline")
    return command.exists() and command.read_bytes() != b""
