"""What torchrun started, as a workplace: its processes meet, rank 0 leads, and each keeps the worker of its rank."""

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

from .rank_agent import AgentWorker, Leave, RankAgent, Start
from .rendezvous import LOOPBACK, RankInfo, StoreRendezvous, interface_towards
from .rendezvous_store import PrefixStore, Store, open_store, put, take
from .worker import POLL_S, STARTUP_S, DeviceType, LocalWorker, Worker, WorkerError

JOIN_S = STARTUP_S  # torchrun starts its processes together; the slowest has torch to import
LEAVE_S = 5.0  # for the others to leave with rank 0: torchrun would call an early end of one the failure of all
SESSION, VERDICT = "moebench", "verdict"


@dataclass(frozen=True, kw_only=True)
class Launched:
    """What torchrun says to a process: which rank of ``world`` it is, on its machine too, and where the store is."""

    rank: int
    world: int
    local_rank: int
    local_world: int
    host: str
    port: int

    @staticmethod
    def from_environment() -> Launched:
        return Launched(
            rank=int(os.environ["RANK"]),
            world=int(os.environ["WORLD_SIZE"]),
            local_rank=int(os.environ["LOCAL_RANK"]),
            local_world=int(os.environ["LOCAL_WORLD_SIZE"]),
            host=os.environ["MASTER_ADDR"],
            port=int(os.environ["MASTER_PORT"]),
        )

    def interface(self) -> str | None:
        """What its worker talks through: nothing but this machine where all ranks are on it."""
        return LOOPBACK if self.local_world == self.world else interface_towards(self.host, self.port)

    def seat(self, ranks: int) -> RankInfo:
        """Its worker's seat when the first ``ranks`` of the world are a group."""
        first = self.rank - self.local_rank
        local_ranks = min(self.local_world, ranks - first)
        return RankInfo(rank=self.rank, ranks=ranks, local_rank=self.local_rank, local_ranks=local_ranks)


class Torchrun:
    """A workplace of one worker for each process of torchrun; a group is the first of them."""

    def __init__(self, store: Store, world: int) -> None:
        self.most_ranks = world
        self._keepers = [AgentWorker(store, rank) for rank in range(world)]
        self._generation = 0

    @contextmanager
    def workers(self, ranks: int, device_type: DeviceType, kernels: Sequence[str]) -> Iterator[Sequence[Worker]]:
        self._generation += 1
        start = Start(generation=self._generation, ranks=ranks, device_type=device_type, kernels=tuple(kernels))
        hired = self._keepers[:ranks]
        for keeper in hired:
            keeper.order(start)
        try:
            yield hired
        finally:
            for keeper in hired:
                keeper.kill()

    def leave(self, exit_code: int) -> None:
        """Have all processes leave with this exit code; wait for them for LEAVE_S at most."""
        for keeper in self._keepers:
            keeper.order(Leave(exit_code))
        deadline = time.monotonic() + LEAVE_S
        for keeper in self._keepers:
            with suppress(WorkerError):  # it is lost
                while keeper.reply(POLL_S) is None and time.monotonic() < deadline:
                    pass


class TorchrunSession:
    """One run of all processes, between their coming together and their leaving."""

    def __init__(self, me: Launched, store: Store, name: str) -> None:
        self._me = me
        self._held = store  # where torchrun keeps no store, rank 0's process does as long as this lives
        self._name = name
        self._interface = me.interface()

    @staticmethod
    def join(me: Launched, claims: Mapping[str, str]) -> TorchrunSession:
        """Wait for all processes; ``claims`` are what must be the same in each.

        A store may outlive a start of the processes: what is of another one stands under another session's name.

        Raises:
            WorkerError: when one does not come or claims something else, or the store is lost.
        """
        with _told_of_the_store(me):
            store = next(rendezvous("env://", timeout=timedelta(seconds=JOIN_S)))[0]
            name = _open_session(store, me.world, claims) if me.rank == 0 else _find_session(store, me.rank, claims)
            differences = _verdict(PrefixStore(name, store), me)
        if differences:
            raise WorkerError(f"{'; '.join(differences)}: start the same moebench in the same way on every machine")
        return TorchrunSession(me, store, name)

    def keep(self) -> int:
        """Keep the worker of this rank until rank 0 lets go; the exit code to leave with.

        Raises:
            WorkerError: when rank 0 or the store is lost.
        """
        with _told_of_the_store(self._me):
            return RankAgent(self._client(), self._me.rank, self._hire).follow()

    @contextmanager
    def lead(self) -> Iterator[Torchrun]:
        """On rank 0: give work to all, itself included.

        Raises:
            WorkerError: when the store is lost.
        """
        threading.Thread(target=self._keep_beside, name="moebench-keeper", daemon=True).start()
        with _told_of_the_store(self._me):
            yield Torchrun(self._client(), self._me.world)

    def _keep_beside(self) -> None:
        with suppress(WorkerError):  # the thread that leads finds the store lost, too
            self.keep()

    def _meeting(self, name: str) -> StoreRendezvous:
        return StoreRendezvous(host=self._me.host, port=self._me.port, prefix=name, interface=self._interface)

    def _client(self) -> Store:
        return open_store(self._meeting(self._name))

    def _hire(self, start: Start) -> LocalWorker:
        meeting = self._meeting(f"{self._name}/generation {start.generation}")
        return LocalWorker(self._me.seat(start.ranks), meeting, start.device_type, start.kernels)


@contextmanager
def _told_of_the_store(me: Launched) -> Iterator[None]:
    try:
        yield
    except DistNetworkError as error:
        raise WorkerError(
            f"torchrun's store at {me.host}:{me.port} has closed: run it again with the same --output to continue"
        ) from error


def _open_session(store: Store, world: int, claims: Mapping[str, str]) -> str:
    """On rank 0: name a session, hear everyone's claims, and say how they differ."""
    name = uuid.uuid4().hex
    room = PrefixStore(name, store)
    put(store, SESSION, name)
    others = range(1, world)
    try:
        room.wait([f"{rank}/claims" for rank in others], timedelta(seconds=JOIN_S))
    except DistStoreError as error:
        late = next(rank for rank in others if not room.check([f"{rank}/claims"]))
        raise WorkerError(f"rank {late} has not come for {JOIN_S:g} s: see what its machine says") from error
    differences: dict[tuple[str, str], str] = {}  # of ranks that differ in the same way the first is named
    for rank in others:
        for field, value in cast(Mapping[str, str], take(room, f"{rank}/claims")).items():
            if value != claims[field]:
                said = f"rank {rank} differs from rank 0 in {field}: {value} / {claims[field]}"
                differences.setdefault((field, value), said)
    put(room, VERDICT, list(differences.values()))
    return name


def _find_session(store: Store, rank: int, claims: Mapping[str, str]) -> str:
    """On another rank: make the claims in the session that rank 0 opens, and wait for what it says to all."""
    deadline = time.monotonic() + JOIN_S
    entered = None
    while time.monotonic() < deadline:
        name = cast(str | None, take(store, SESSION))
        if name is not None:
            room = PrefixStore(name, store)
            closed = room.check([VERDICT])
            if name == entered and closed:
                return name
            if name != entered and not closed:
                put(room, f"{rank}/claims", claims)
                entered = name
        time.sleep(POLL_S)
    raise WorkerError(f"rank 0 has not come for {JOIN_S:g} s: see what its machine says")


def _verdict(room: Store, me: Launched) -> list[str]:
    """How ranks differ. Where they do, rank 0 waits until all have read it: the store may close when it leaves."""
    differences = cast(list[str], take(room, VERDICT))
    if differences:
        put(room, f"{me.rank}/read", True)
        if me.rank == 0:
            with suppress(DistStoreError):
                room.wait([f"{rank}/read" for rank in range(me.world)], timedelta(seconds=LEAVE_S))
    return differences
