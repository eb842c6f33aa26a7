"""The failure that began it: when one rank dies, its peers fail in their collectives and may report first."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence

from .worker import POLL_S, Answer, Died, Worker

LAST_WORDS_S = 2.0  # time for the peers to report too, after the first report of a failure


def receive_all(workers: Sequence[Worker]) -> list[Answer] | Died:
    """Wait for the next message of every rank; return them in rank order, or the failure that the others followed from.

    Of several failures it is one that was seen, else that of the rank that had joined the fewest collectives.

    Raises:
        WorkerError: when a rank is out of reach.
    """
    answers: dict[int, Answer] = {}
    deaths: list[Died] = []
    since = math.inf
    while waiting := [rank for rank in range(len(workers)) if rank not in answers]:
        if deaths and _complete(deaths, since, [workers[rank] for rank in waiting]):
            break
        for rank in waiting:
            answer = workers[rank].receive(POLL_S if rank == waiting[0] else 0.0)
            if answer is not None:
                answers[rank] = answer
            if isinstance(answer, Died):
                deaths.append(answer)
                since = min(since, time.monotonic())
    if deaths:
        return min(deaths, key=lambda death: (not death.seen, death.joined))
    return [answers[rank] for rank in range(len(workers))]


def _complete(deaths: Sequence[Died], since: float, silent: Sequence[Worker]) -> bool:
    """Return whether nothing more is to be learnt: a death was seen, or the silent ranks have had time to report."""
    if any(death.seen for death in deaths):
        return True
    return time.monotonic() - since > LAST_WORDS_S and all(worker.in_reach for worker in silent)
