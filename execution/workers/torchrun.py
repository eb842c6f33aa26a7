"""Processes that torchrun started, as a provider of workers: rank 0 leads, each process is its rank's agent."""

from __future__ import annotations

import os
import threading
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import cast

from torch.distributed import DistNetworkError, DistStoreError
from torch.distributed.rendezvous import rendezvous

from .local_worker import LocalWorker
from .rank_agent import AgentWorker, Leave, RankAgent, Start
from .rendezvous import LOOPBACK, RankInfo, StoreRendezvous, interface_towards
from .rendezvous_store import PrefixStore, Store, open_store, put, take
from .worker import POLL_S, STARTUP_S, DeviceType, Worker, WorkerError

JOIN_S = STARTUP_S  # torchrun starts its processes together; the slowest has torch to import
LEAVE_S = 5.0  # for the others to leave with rank 0: torchrun would call an early end of one the failure of all
SESSION, DIFFERENCES = "moebench", "differences"


@dataclass(frozen=True, kw_only=True)
class Launched:
    """The variables that torchrun gives a process: its rank of ``world``, also on its machine, and the store."""

    rank: int
    world: int
    local_rank: int
    local_world: int
    host: str
    port: int

    @staticmethod
    def from_environment() -> Launched:
        """Read the variables of this process."""
        return Launched(
            rank=int(os.environ["RANK"]),
            world=int(os.environ["WORLD_SIZE"]),
            local_rank=int(os.environ["LOCAL_RANK"]),
            local_world=int(os.environ["LOCAL_WORLD_SIZE"]),
            host=os.environ["MASTER_ADDR"],
            port=int(os.environ["MASTER_PORT"]),
        )

    def interface(self) -> str | None:
        """Return the network interface of its worker: the loopback where all ranks are on this machine."""
        return LOOPBACK if self.local_world == self.world else interface_towards(self.host, self.port)

    def rank_info(self, ranks: int) -> RankInfo:
        """Describe its worker's rank in a group of the first ``ranks`` of the world."""
        first = self.rank - self.local_rank
        local_ranks = min(self.local_world, ranks - first)
        return RankInfo(rank=self.rank, ranks=ranks, local_rank=self.local_rank, local_ranks=local_ranks)


class Torchrun:
    """Provider of one worker for each process of torchrun; a group of workers is the first of them."""

    def __init__(self, store: Store, world: int) -> None:
        self.most_ranks = world
        self._workers = [AgentWorker(store, rank) for rank in range(world)]
        self._generation = 0

    @contextmanager
    def workers(self, ranks: int, device_type: DeviceType, kernels: Sequence[str]) -> Iterator[Sequence[Worker]]:
        self._generation += 1
        start = Start(generation=self._generation, ranks=ranks, device_type=device_type, kernels=tuple(kernels))
        group = self._workers[:ranks]
        for worker in group:
            worker.send(start)
        try:
            yield group
        finally:
            for worker in group:
                worker.kill()

    def leave(self, exit_code: int) -> None:
        """Make all processes leave with this exit code; wait for those in reach, for LEAVE_S at most."""
        for worker in self._workers:
            worker.send(Leave(exit_code))
        deadline = time.monotonic() + LEAVE_S
        for worker in self._workers:
            with suppress(WorkerError):  # it is lost
                while worker.receive(POLL_S) is None and worker.in_reach and time.monotonic() < deadline:
                    pass


class TorchrunSession:
    """One run of all processes, from their joining to their leaving."""

    def __init__(self, me: Launched, store: Store, name: str) -> None:
        self._me = me
        self._held = store  # where torchrun keeps no store, rank 0's process does as long as this object lives
        self._name = name
        self._interface = me.interface()

    @staticmethod
    def join(me: Launched, claims: Mapping[str, str]) -> TorchrunSession:
        """Wait for all processes; ``claims`` are values that must be the same in each.

        A store may outlive a start of the processes: entries of another start are under another session's name.

        Raises:
            WorkerError: when a process does not come or claims another value, or the store is lost.
        """
        with _lost_store_reported(me):
            store = next(rendezvous("env://", timeout=timedelta(seconds=JOIN_S)))[0]
            name = _open_session(store, me.world, claims) if me.rank == 0 else _find_session(store, me.rank, claims)
            differences = _read_differences(PrefixStore(name, store), me)
        if differences:
            raise WorkerError(f"{'; '.join(differences)}: start the same moebench in the same way on every machine")
        return TorchrunSession(me, store, name)

    def serve(self) -> int:
        """Be the agent of this rank until rank 0 lets go; return the exit code to leave with.

        Raises:
            WorkerError: when rank 0 or the store is lost.
        """
        with _lost_store_reported(self._me):
            return RankAgent(self._client(), self._me.rank, self._make_worker).serve()

    @contextmanager
    def lead(self) -> Iterator[Torchrun]:
        """Give, on rank 0, the workers of all processes, its own included.

        Raises:
            WorkerError: when the store is lost.
        """
        threading.Thread(target=self._serve_aside, name="moebench-agent", daemon=True).start()
        with _lost_store_reported(self._me):
            yield Torchrun(self._client(), self._me.world)

    def _serve_aside(self) -> None:
        with suppress(WorkerError):  # the thread that leads finds the store lost, too
            self.serve()

    def _rendezvous(self, name: str) -> StoreRendezvous:
        return StoreRendezvous(host=self._me.host, port=self._me.port, prefix=name, interface=self._interface)

    def _client(self) -> Store:
        return open_store(self._rendezvous(self._name))

    def _make_worker(self, start: Start) -> LocalWorker:
        group = self._rendezvous(f"{self._name}/generation {start.generation}")
        return LocalWorker(self._me.rank_info(start.ranks), group, start.device_type, start.kernels)


@contextmanager
def _lost_store_reported(me: Launched) -> Iterator[None]:
    try:
        yield
    except DistNetworkError as error:
        raise WorkerError(
            f"torchrun's store at {me.host}:{me.port} has closed: run it again with the same --output to continue"
        ) from error


def _open_session(store: Store, world: int, claims: Mapping[str, str]) -> str:
    """Name a session, on rank 0; read the claims of all ranks, and write down how they differ."""
    name = uuid.uuid4().hex
    session = PrefixStore(name, store)
    put(store, SESSION, name)
    others = range(1, world)
    try:
        session.wait([f"{rank}/claims" for rank in others], timedelta(seconds=JOIN_S))
    except DistStoreError as error:
        late = next(rank for rank in others if not session.check([f"{rank}/claims"]))
        raise WorkerError(f"rank {late} has not come for {JOIN_S:g} s: see what its machine says") from error
    differences: dict[tuple[str, str], str] = {}  # of ranks that differ in the same way the first is named
    for rank in others:
        for field, value in cast(Mapping[str, str], take(session, f"{rank}/claims")).items():
            if value != claims[field]:
                difference = f"rank {rank} differs from rank 0 in {field}: {value} / {claims[field]}"
                differences.setdefault((field, value), difference)
    put(session, DIFFERENCES, list(differences.values()))
    return name


def _find_session(store: Store, rank: int, claims: Mapping[str, str]) -> str:
    """Make the claims of another rank in the session that rank 0 opens, and wait until rank 0 has compared them."""
    deadline = time.monotonic() + JOIN_S
    entered = None
    while time.monotonic() < deadline:
        name = cast(str | None, take(store, SESSION))
        if name is not None:
            session = PrefixStore(name, store)
            compared = session.check([DIFFERENCES])
            if name == entered and compared:
                return name
            if name != entered and not compared:
                put(session, f"{rank}/claims", claims)
                entered = name
        time.sleep(POLL_S)
    raise WorkerError(f"rank 0 has not come for {JOIN_S:g} s: see what its machine says")


def _read_differences(session: Store, me: Launched) -> list[str]:
    """Return how ranks differ. If they do, rank 0 waits for all to read it: the store may close when rank 0 leaves."""
    differences = cast(list[str], take(session, DIFFERENCES))
    if differences:
        put(session, f"{me.rank}/read", True)
        if me.rank == 0:
            with suppress(DistStoreError):
                session.wait([f"{rank}/read" for rank in range(me.world)], timedelta(seconds=LEAVE_S))
    return differences
