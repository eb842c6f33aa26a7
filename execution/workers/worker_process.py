"""Main function of a worker's process: set the rank up, import the kernels, answer tasks."""

from __future__ import annotations

import gc
import multiprocessing
import os
import threading
import time
from collections.abc import Callable, MutableSequence, Sequence
from multiprocessing.connection import Connection
from typing import Final, Literal

from ...common.errors import in_one_line
from ...kernels.catalog import KERNELS
from ...kernels.problem import Problem
from ..trial.task import NOBODY, Task
from .affinity import Affinity, prepare_threads
from .rendezvous import RankInfo, Rendezvous, talk_through
from .worker import DeviceType, Died, Ready

SMALL: Final = Problem(T=1, D=16, F=16, E=1, K=1)
COUNT_S = 1.0  # between two counts of the collectives that a worker has joined


def serve(
    info: RankInfo,
    rendezvous: Rendezvous,
    device_type: DeviceType,
    kernels: Sequence[str],
    affinity: Affinity,
    connection: Connection,
    heartbeat: MutableSequence[float],
) -> None:
    """Set up the rank, import the kernels, then answer each task until the pipe closes.

    A worker that fails reports the failure and stays alive until it is killed, because its end would make the ranks
    that wait for it fail as well.
    """
    affinity.apply()
    if device_type == "cpu":
        prepare_threads(info.local_rank, info.local_ranks)
    talk_through(rendezvous.interface)

    def announce(culprit: int) -> None:
        heartbeat[:2] = [culprit, time.monotonic()]

    # Imported here, so that the process that only waits for records needs no torch.
    import torch  # noqa: PLC0415

    from ...kernels.tuned.source_hash import source_hash  # noqa: PLC0415
    from ..trial.failure import ending  # noqa: PLC0415
    from .rank_setup import joined_collectives, open_trial_runner  # noqa: PLC0415

    threading.Thread(target=_count_until_parent_ends, args=(heartbeat, joined_collectives), daemon=True).start()
    try:
        for name in kernels:  # a peer imports its package when it is first asked: not within the first task
            KERNELS.load(name).supports(SMALL, torch.device(device_type))
            source_hash(name)
        runner = open_trial_runner(info, device_type, rendezvous, alone=affinity.exclusive)
        gc.collect()
        gc.freeze()  # what was imported stays: looking through it takes a tenth of a second, several times a trial
        connection.send(Ready(runner.environment, runner.commit))
        while True:
            task: Task = connection.recv()
            records = runner.run(task, announce)
            connection.send(records if info.rank == 0 else [])
            announce(NOBODY)
    except EOFError:
        return
    except Exception as error:  # noqa: BLE001  # the parent turns it into a record or into its own error
        where = f"rank {info.rank}: " if info.ranks > 1 else ""
        reason = f"{where}{in_one_line(error)}"
        how: Literal["crashed", "out_of_memory"] = "out_of_memory" if ending(error) == "out_of_memory" else "crashed"
        connection.send(Died(int(heartbeat[0]), how, reason, joined=joined_collectives()))
        connection.poll(None)


def _count_until_parent_ends(heartbeat: MutableSequence[float], joined: Callable[[], int]) -> None:
    """Keep the count of collectives up to date; end this process with its parent, the only reader of its records."""
    if parent := multiprocessing.parent_process():
        while parent.is_alive():
            heartbeat[2] = joined()
            parent.join(COUNT_S)
        os._exit(1)
