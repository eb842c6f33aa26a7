"""Ranks that measure together: work that all do at the same time, and exchanges that all start together."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.distributed as dist

from ....execution.trial.across_ranks import processes_here
from ....results.timing.disturbance import Watch

DELAY_S = 1e-3  # within which ranks join an exchange: longer than a small message takes, shorter than a large one
WINDOW_S = 0.25  # of repeated work by all ranks at once, so that none is fast at the cost of another
TRIES = 3  # of a window that others disturb
SOME = 0.25  # of exchanges: half would move their medians


@dataclass(frozen=True)
class Workload:
    """Work that can be repeated, and the amount that one repetition does."""

    amount: float
    do: Callable[[], object]


@dataclass(frozen=True, kw_only=True)
class RankRates:
    """Rate of a rank by itself, and its rate while all others do the same, in units per second."""

    alone: float
    together: float


@dataclass
class Tally:
    """Count of measurements, and of those that others disturbed."""

    disturbed: int = 0
    all: int = 0

    def add(self, disturbed: bool) -> None:
        """Count a measurement."""
        self.disturbed += disturbed
        self.all += 1

    def __str__(self) -> str:
        return f"{self.disturbed} of {self.all}"


class RankGroup:
    """The ranks of the default process group, in nodes of ``ranks_per_node``; all must call the same methods.

    It watches whether others use the cores of any rank meanwhile, see `beside_others`.
    """

    def __init__(self, ranks_per_node: int, device: torch.device) -> None:
        self.rank, self.ranks = dist.get_rank(), dist.get_world_size()
        self.ranks_per_node = min(ranks_per_node, self.ranks)
        self.device = device
        self._groups: dict[tuple[int, ...], dist.ProcessGroup] = {}
        self._watch = Watch(processes_here())
        self._rates, self._exchanges = Tally(), Tally()
        self._chance = random.Random(0)  # noqa: S311  # moments, not secrets

    def rates(self, job: Workload) -> RankRates:
        """Return the rate of rank 0 while the others wait, and the mean rate while all are busy."""
        job.do()
        alone = self._quiet(lambda: self._rate(job) if self.rank == 0 else 0.0)
        together = self._quiet(lambda: self._rate(job))
        return RankRates(
            alone=self.agreed(alone, dist.ReduceOp.MAX), together=self.agreed(together, dist.ReduceOp.SUM) / self.ranks
        )

    def exchange(self, groups: Sequence[Sequence[int]], sent: Mapping[tuple[int, int], int]) -> float:
        """Return the seconds from when the last rank joins until the slowest has exchanged bytes with its group.

        ``sent`` are bytes by source and target. Ranks join at different moments, as they do after computing: only then
        does a resource show that both directions of a pair share.
        """
        members: Sequence[int] = ()
        for group in groups:
            key = tuple(group)
            if key not in self._groups:
                self._groups[key] = dist.new_group(list(group))
            if self.rank in group:
                members = key
        send = [sent.get((self.rank, other), 0) for other in members]
        receive = [sent.get((other, self.rank), 0) for other in members]
        given = torch.ones(sum(send), dtype=torch.uint8, device=self.device)
        taken = torch.empty(sum(receive), dtype=torch.uint8, device=self.device)
        delays_s = [self._chance.uniform(0.0, DELAY_S) for _ in range(self.ranks)]  # the same on every rank
        dist.barrier()
        self._watch.start()
        start = self._now()
        time.sleep(delays_s[self.rank])
        if members:
            dist.all_to_all_single(taken, given, receive, send, group=self._groups[tuple(members)])
        joined = max(delays_s[rank] for group in groups for rank in group)
        seconds = self._now() - start
        self._exchanges.add(self._disturbed())
        return max(0.0, self.agreed(seconds, dist.ReduceOp.MAX) - joined)

    @property
    def beside_others(self) -> str:
        """How much was measured while others used the cores, in words; empty if too little to matter.

        Exchanges give medians, which some disturbed ones do not move.
        """
        if not self._rates.disturbed and self._exchanges.disturbed <= SOME * self._exchanges.all:
            return ""
        return f"{self._rates} rates and {self._exchanges} exchanges were measured while others used the cores"

    def agreed(self, value: float, how: dist.ReduceOp.RedOpType) -> float:
        """Return the reduction of the values of all ranks."""
        values = torch.tensor([value], dtype=torch.float64, device=self.device)
        dist.all_reduce(values, how)
        return float(values.item())

    def _quiet(self, measure: Callable[[], float]) -> float:
        """Return a measurement that all ranks begin together and that nobody disturbed, or the last of `TRIES`."""
        for _ in range(TRIES):
            dist.barrier()
            self._watch.start()
            found = measure()
            if not (disturbed := self._disturbed()):
                break
        self._rates.add(disturbed)
        return found

    def _disturbed(self) -> bool:
        """Return whether others used the cores of any rank since it started its watch."""
        return self.agreed(float(self._watch.stop().disturbed or 0), dist.ReduceOp.MAX) > 0

    def _rate(self, job: Workload) -> float:
        start, done, elapsed = self._now(), 0, 0.0
        while elapsed < WINDOW_S:
            job.do()
            done += 1
            elapsed = self._now() - start
        return done * job.amount / elapsed

    def _now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()
