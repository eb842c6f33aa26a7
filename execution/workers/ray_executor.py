"""Executor on a Ray cluster: an actor for each GPU, or for each share of a machine's cores. Needs the extra ``ray``.

An actor is a supervisor of workers, as in the local executor, so a kernel that crashes costs a record and no actor.
Records come back to the process that submitted the task, which alone writes them.
"""

from __future__ import annotations

import importlib
import logging
import os
import socket
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any

from ...common.packages import use
from ...results.record import Record
from ..trial.task import Task
from .affinity import ALL_DEVICES, Affinity, Cores
from .executor import Executor, ExecutorError, SlotLost
from .local_worker import LocalWorkers
from .supervisor import Supervisor
from .worker import DeviceType, Ready, WorkerError

PLACE_S = 60.0  # for Ray to find a place for an actor and to start its process
CONNECT_S = 5.0
STOP_S = 5.0  # for an actor to kill its workers
LONGEST_REASON = 240  # characters
OBJECTS_BYTES = 100 << 20  # records are small; Ray would take a third of the memory from what is measured

# Ray reads these when it is imported. Otherwise it prints on our standard output what happens to its actors.
QUIET = {"RAY_DEDUP_LOGS_SKIP_REGEX": "."}
# A cluster that we start listens on the loopback interface only, as Ray does on systems where it supports no other
# cluster, and sends no usage statistics.
OWN = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0", "RAY_USAGE_STATS_ENABLED": "0"}


@contextmanager
def ray_executor(
    device_type: DeviceType,
    kernels: Sequence[str],
    ranks: int = 1,
    *,
    address: str | None = None,
    slots: int | None = None,
) -> Iterator[Executor]:
    """Give an executor on the cluster at ``address`` (``auto`` finds it), or on a new cluster on this machine.

    On GPUs each slot has ``ranks`` of those that are free when it starts, and there are as many slots as find room, or
    ``slots``. On CPUs there is a slot for each machine, whose cores are divided among ``slots``. The same moebench must
    be installed on every machine. ``kernels`` are what the workers import when they start. A new cluster is shut down
    at the end; a cluster that this process is connected to already is used and left running.

    Raises:
        ExecutorError: when the cluster does not answer or has too little room.
        Unusable: when ray is missing or broken.
        WorkerError: when a worker does not come up.
    """
    most_ranks = ranks if device_type == "cuda" else None if (slots or 1) == 1 else 1
    with (
        _connected(address) as ray,
        Executor(_slots(ray, device_type, kernels, ranks, slots), most_ranks) as executor,
    ):
        yield executor


@contextmanager
def _connected(address: str | None) -> Iterator[Any]:
    with _environment(QUIET | (OWN if address is None else {})):
        ray: Any = use("ray", partial(importlib.import_module, "ray"), remedy="pip install 'moebench[ray]'")
        mine = not ray.is_initialized()
        if mine:
            own = {"include_dashboard": False, "object_store_memory": OBJECTS_BYTES} if address is None else {}
            try:
                _check_listening(address)
                ray.init(address=address or "local", log_to_driver=False, logging_level=logging.ERROR, **own)
            except (OSError, RuntimeError, ValueError) as error:
                where = "did not start on this machine" if address is None else f"does not answer at {address}"
                raise ExecutorError(
                    f"a Ray cluster {where} ({_short(error)}): see that it is up; where it wants tokens, "
                    "set RAY_AUTH_MODE=token"
                ) from error
    try:
        yield ray
    finally:
        if mine:
            ray.shutdown()


def _check_listening(address: str | None) -> None:
    """Check that a process listens at ``HOST:PORT``, because Ray itself would try for minutes.

    Raises:
        OSError: when none does.
    """
    host, colon, port = (address or "").rpartition(":")
    if colon and "//" not in host:
        socket.create_connection((host.strip("[]"), int(port)), timeout=CONNECT_S).close()


@contextmanager
def _environment(wanted: Mapping[str, str]) -> Iterator[None]:
    """Set environment variables while a cluster starts."""
    before = {name: os.environ.get(name) for name in wanted}
    os.environ.update(wanted)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _slots(
    ray: Any, device_type: DeviceType, kernels: Sequence[str], ranks: int, slots: int | None
) -> Mapping[str, RaySlot]:
    def slot(affinity: Affinity, **resources: object) -> RaySlot:
        # Two calls at the same time: `stop` must not wait for the task that is measured.
        actor = ray.remote(max_concurrency=2, **resources)(Supervisor)
        return RaySlot(ray, lambda: actor.remote(device_type, kernels, LocalWorkers(affinity), ranks))

    if device_type == "cuda":
        free = int(ray.available_resources().get("GPU", 0))
        wanted = ranks * (slots or 1)
        if free < wanted:
            raise ExecutorError(f"the cluster has {free} free GPUs, {wanted} wanted: free some or use the CPU")
        # Ray itself shows an actor only its own GPUs, all of one machine.
        count = slots or free // ranks
        return {f"actor {number}": slot(ALL_DEVICES, num_gpus=ranks, num_cpus=0) for number in range(count)}
    shares = slots or 1
    found: dict[str, RaySlot] = {}
    for node in ray.nodes():
        cores = int(node["Resources"].get("CPU", 0)) // shares
        if node["Alive"] and cores:
            at = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
            for number in range(shares):
                affinity = Cores(number, shares) if shares > 1 else ALL_DEVICES
                name = f"actor {len(found)} on {node['NodeManagerAddress']}"
                found[name] = slot(affinity, num_cpus=cores, scheduling_strategy=at)
    if not found:
        raise ExecutorError(f"no machine of the cluster has {shares} cores: ask for fewer slots")
    return found


class RaySlot:
    """An actor that supervises workers on its machine; ``create`` asks the cluster for one."""

    def __init__(self, ray: Any, create: Callable[[], Any]) -> None:
        self._ray = ray
        self._create = create
        self._actor: Any = None

    def start(self) -> Ready:
        self.stop()  # one that is only out of reach would still hold its device
        actor = self._actor = self._create()
        try:
            self._ray.get(actor.__ray_ready__.remote(), timeout=PLACE_S)
            ready: Ready = self._get(actor.start.remote())
        except self._ray.exceptions.GetTimeoutError as error:
            raise ExecutorError(f"the cluster has had no room for an actor for {PLACE_S:g} s: free some") from error
        except (SlotLost, self._ray.exceptions.RayError) as error:
            raise ExecutorError(
                f"an actor did not start: {_short(error)}; is the same moebench installed on every machine?"
            ) from error
        return ready

    def run(self, task: Task) -> list[Record]:
        records: list[Record] = self._get(self._actor.run.remote(task))
        return records

    def stop(self) -> None:
        if self._actor is None:
            return
        with suppress(self._ray.exceptions.RayError):
            self._ray.get(self._actor.stop.remote(), timeout=STOP_S)  # else its workers would outlive it
        with suppress(self._ray.exceptions.RayError):
            self._ray.kill(self._actor)
        self._actor = None

    def _get(self, answer: object) -> Any:
        """Return the actor's answer; raise its WorkerError here, and any other error with Ray's traceback of the actor.

        Raises:
            SlotLost: when the actor, its machine or the answer is lost.
        """
        try:
            return self._ray.get(answer)
        except self._ray.exceptions.RayTaskError as error:
            raise error.cause if isinstance(error.cause, WorkerError) else error from None
        except self._ray.exceptions.RayError as error:
            raise SlotLost(_short(error)) from error


def _short(error: Exception) -> str:
    """Return the first and the last line of Ray's message, what happened and why; between them is a page of advice."""
    lines = str(error).split("\n")
    short = " ".join(dict.fromkeys((lines[0], lines[-1]))) or type(error).__name__
    return textwrap.shorten(short, LONGEST_REASON, placeholder=" …")
