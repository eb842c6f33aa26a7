"""How long a collective or a piece of work takes on a machine: latency, then the tightest of its limits."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from .amount import Amount
from .layout import Layout
from .machine import Machine, Network, Rate
from .transfer import Transfer

WHERE: Mapping[Network, str] = {"node": "inside", "across": "across"}
RING_HALVES = 2  # gloo passes a block on in halves, one while it receives the other


@dataclass(frozen=True, kw_only=True)
class Duration:
    """Seconds before bytes flow and while they do, and what keeps them from flowing faster."""

    latency_s: float
    volume_s: float
    limit: str

    @property
    def seconds(self) -> float:
        return self.latency_s + self.volume_s


@dataclass(frozen=True, kw_only=True)
class Clock:
    """Times on the ranks of a layout: until the slowest is done, or as if all had equal shares when ``balanced``."""

    machine: Machine
    layout: Layout
    balanced: bool = False

    def work(self, amount: Amount, rate: Rate) -> float:
        """Seconds of work that ranks do at a rate, those of a node no faster than they can together."""
        return max(self._of_rank(amount, rate.rank), self._of_node(amount, rate.node))

    def transfer(self, transfer: Transfer) -> Duration:
        """Of one collective.

        Before bytes flow: the latency of the slowest link class in use, and what each message after the first takes,
        α + (m − 1)·μ; in a ring, where messages wait for each other, m·α. While they flow: the longest that any limit
        takes, out of or into a rank or a node over the links of one class.
        """
        used = [link for link, amount in transfer.out.items() if link != "self" and amount.mean_R.any()]
        if not used:
            return Duration(latency_s=0.0, volume_s=0.0, limit="")
        links = [self.machine.link(link) for link in used]
        latency_s = max(link.latency_s.value for link in links)
        if transfer.ring:
            latency_s *= transfer.sends
        else:
            of_each = [link.message_s.value for link in links]
            counts = [transfer.messages[name] for name in used]
            latency_s += sum(count * one for count, one in zip(counts, of_each, strict=True)) - max(of_each)
        volume_s, limit = max(limit for link in used for limit in self._limits(transfer, link))
        return Duration(latency_s=latency_s, volume_s=volume_s, limit=limit)

    def _limits(self, transfer: Transfer, link: Network) -> Iterator[tuple[float, str]]:
        """Seconds that each limit of a link class takes, and its name."""
        rate = self.machine.link(link).rate
        out, into = transfer.out[link], transfer.into[link]
        for one, other in ((out, into), (into, out)):
            of_rank = one + other.scaled(self._turn(transfer, link, ranks=1))
            of_node = one + other.scaled(self._turn(transfer, link, ranks=self.layout.local))
            if transfer.ring and link == "across":
                # NCCL lays rings over all ports of a node, so that only what they do together counts.
                ports = min(rate.node, rate.rank * self.layout.local)
                yield self._of_node(of_node, ports), f"node, {WHERE[link]}"
            else:
                yield self._of_rank(of_rank, rate.rank), f"rank, {WHERE[link]}"
                yield self._of_node(of_node, rate.node), f"node, {WHERE[link]}"

    def _turn(self, transfer: Transfer, link: Network, *, ranks: int) -> float:
        """The share of one direction that waits for the other: one message of those that so many ranks send.

        Where the two directions of a pair take turns, pairs that share a limit fill each other's pauses, and what is
        left is that the last pair to finish has had to wait for its own other half.
        """
        turns = self.machine.link(link).turns
        if turns is None:
            return 0.0
        if transfer.ring:  # nothing comes back from the next rank, unless there are but two
            return turns.value / RING_HALVES if self.layout.ranks == 2 else 0.0
        return turns.value / (ranks * transfer.messages[link])

    def _of_rank(self, amount: Amount, rate: float) -> float:
        return self._share(amount, self.layout.groups) / rate

    def _of_node(self, amount: Amount, rate: float) -> float:
        if rate == math.inf:
            return 0.0
        layout = self.layout
        nodes = amount.summed(layout.node_R).repeated(layout.groups_per_node)
        return self._share(nodes, layout.groups // layout.groups_per_node) / rate

    def _share(self, amount: Amount, copies: int) -> float:
        return amount.mean if self.balanced else amount.largest(copies)
