"""The devices of a Ray cluster: an actor for each GPU, or for each share of a machine's cores. Needs the extra ``ray``.

An actor watches over workers as the local executor does, so a kernel that crashes costs a record and no actor. Records
come back to the process that submitted the task; nobody else writes them anywhere.
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
from .affinity import WHOLE, Affinity, Cores
from .executor import Executor, ExecutorError
from .pool import Pool, SlotLost
from .supervisor import Supervisor
from .worker import DeviceType, Ready, WorkerError
from .worker_group import LocalWorkers

ROOM_S = 60.0  # for Ray to find a place for an actor and to start its process
KNOCK_S = 5.0
CLOSE_S = 5.0  # for an actor to kill its workers
LONGEST_REASON = 240  # letters
OBJECTS_BYTES = 100 << 20  # records are small; Ray would take a third of the memory from what is measured

# Ray reads these when it is imported. It would print on our standard output what happens to its actors.
QUIET = {"RAY_DEDUP_LOGS_SKIP_REGEX": "."}
# A cluster of our own listens on the loopback device only (so Ray does on systems where it supports no other cluster)
# and tells nobody that it is used.
OWN = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0", "RAY_USAGE_STATS_ENABLED": "0"}


@contextmanager
def ray_executor(
    device_type: DeviceType, kernels: Sequence[str], *, address: str | None = None, slots: int | None = None
) -> Iterator[Executor]:
    """An executor on the cluster at ``address`` (``auto`` finds it), or on one of its own on this machine.

    On GPUs it has a slot for each that is free when it starts, or for ``slots`` of them; on CPUs one for each machine,
    whose cores are divided among ``slots``. Moebench is to be installed on every machine. ``kernels`` are what the
    workers import when they start. A cluster of its own is shut down at the end, and it uses one that this process is
    connected to already.

    Raises:
        ExecutorError: when the cluster does not answer or has too little room.
        Unusable: when ray is missing or broken.
        WorkerError: when a worker does not come up.
    """
    with _connected(address) as ray, Pool(_slots(ray, device_type, kernels, slots)) as pool:
        yield pool


@contextmanager
def _connected(address: str | None) -> Iterator[Any]:
    with _environment(QUIET | (OWN if address is None else {})):
        ray: Any = use("ray", partial(importlib.import_module, "ray"), remedy="pip install 'moebench[ray]'")
        mine = not ray.is_initialized()
        if mine:
            own = {"include_dashboard": False, "object_store_memory": OBJECTS_BYTES} if address is None else {}
            try:
                _knock(address)
                ray.init(address=address or "local", log_to_driver=False, logging_level=logging.ERROR, **own)
            except (OSError, RuntimeError, ValueError) as error:
                where = "did not start on this machine" if address is None else f"does not answer at {address}"
                raise ExecutorError(
                    f"a Ray cluster {where} ({_said(error)}): see that it is up; where it wants tokens, "
                    "set RAY_AUTH_MODE=token"
                ) from error
    try:
        yield ray
    finally:
        if mine:
            ray.shutdown()


def _knock(address: str | None) -> None:
    """Raise an OSError when nobody listens at ``HOST:PORT``: Ray itself would try for minutes."""
    host, colon, port = (address or "").rpartition(":")
    if colon and "//" not in host:
        socket.create_connection((host.strip("[]"), int(port)), timeout=KNOCK_S).close()


@contextmanager
def _environment(wanted: Mapping[str, str]) -> Iterator[None]:
    """Variables of the environment for the while that a cluster starts."""
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


def _slots(ray: Any, device_type: DeviceType, kernels: Sequence[str], slots: int | None) -> Mapping[str, RaySlot]:
    def slot(mask: Affinity, **place: object) -> RaySlot:
        # Closing must not wait for the task that is measured.
        actor = ray.remote(max_concurrency=2, **place)(Supervisor)
        return RaySlot(ray, lambda: actor.remote(device_type, kernels, LocalWorkers(mask)))

    if device_type == "cuda":
        free = int(ray.available_resources().get("GPU", 0))
        if free < (slots or 1):
            raise ExecutorError(f"the cluster has {free} free GPUs, {slots or 1} wanted: free some or use the CPU")
        # Ray itself shows an actor its GPU only.
        return {f"actor {number}": slot(WHOLE, num_gpus=1, num_cpus=0) for number in range(slots or free)}
    shares = slots or 1
    found: dict[str, RaySlot] = {}
    for node in ray.nodes():
        cores = int(node["Resources"].get("CPU", 0)) // shares
        if node["Alive"] and cores:
            at = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
            for number in range(shares):
                mask = Cores(number, shares) if shares > 1 else WHOLE
                name = f"actor {len(found)} on {node['NodeManagerAddress']}"
                found[name] = slot(mask, num_cpus=cores, scheduling_strategy=at)
    if not found:
        raise ExecutorError(f"no machine of the cluster has {shares} cores: ask for fewer slots")
    return found


class RaySlot:
    """An actor that runs tasks in workers of its own; ``place`` asks the cluster for one."""

    def __init__(self, ray: Any, place: Callable[[], Any]) -> None:
        self._ray = ray
        self._place = place
        self._actor: Any = None

    def open(self) -> Ready:
        self.close()  # one that is only out of reach would still hold its device
        actor = self._actor = self._place()
        try:
            self._ray.get(actor.__ray_ready__.remote(), timeout=ROOM_S)
            ready: Ready = self._get(actor.open.remote())
        except self._ray.exceptions.GetTimeoutError as error:
            raise ExecutorError(f"the cluster has had no room for an actor for {ROOM_S:g} s: free some") from error
        except (SlotLost, self._ray.exceptions.RayError) as error:
            raise ExecutorError(
                f"an actor did not start: {_said(error)}; is the same moebench installed on every machine?"
            ) from error
        return ready

    def run(self, task: Task) -> list[Record]:
        records: list[Record] = self._get(self._actor.run.remote(task))
        return records

    def close(self) -> None:
        if self._actor is None:
            return
        with suppress(self._ray.exceptions.RayError):
            self._ray.get(self._actor.close.remote(), timeout=CLOSE_S)  # its workers would be left when it is killed
        with suppress(self._ray.exceptions.RayError):
            self._ray.kill(self._actor)
        self._actor = None

    def _get(self, answer: object) -> Any:
        """What the actor answers; what its code raises is raised here, a surprise with Ray's traceback of the actor.

        Raises:
            SlotLost: when the actor, its machine or the answer is lost.
        """
        try:
            return self._ray.get(answer)
        except self._ray.exceptions.RayTaskError as error:
            raise error.cause if isinstance(error.cause, WorkerError) else error from None
        except self._ray.exceptions.RayError as error:
            raise SlotLost(_said(error)) from error


def _said(error: Exception) -> str:
    """The first and the last line of what Ray says: what happened and why; between them it goes on for a page."""
    lines = str(error).split("\n")
    said = " ".join(dict.fromkeys((lines[0], lines[-1]))) or type(error).__name__
    return textwrap.shorten(said, LONGEST_REASON, placeholder=" …")
