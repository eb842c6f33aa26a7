"""Time of a collective or of local work on a machine: latency, then the tightest of the limits on bandwidth."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from .collectives import Transfer
from .expected_rows import RowDistribution
from .layout import Layout
from .machine import Link, Network, Rate

WHERE: Mapping[Network, str] = {"node": "inside", "across": "across"}
RING_HALVES = 2  # gloo passes a block on in two halves: it sends one while it receives the other


@dataclass(frozen=True, kw_only=True)
class Duration:
    """Seconds before bytes flow and while they flow, and the limit that keeps them from flowing faster."""

    latency_s: float
    volume_s: float
    limit: str

    @property
    def seconds(self) -> float:
        return self.latency_s + self.volume_s


@dataclass(frozen=True, kw_only=True)
class CollectiveTimes:
    """Times on the ranks of a layout: until the slowest is done, or with equal shares for all when ``balanced``."""

    link: Callable[[Network], Link]
    layout: Layout
    balanced: bool = False

    def work(self, amount: RowDistribution, rate: Rate) -> float:
        """Return the seconds of work at a rate, which the ranks of one node share where they share a resource."""
        return max(self._of_ranks(amount) / rate.rank, self._of_nodes(self._nodes(amount)) / rate.node)

    def transfer(self, transfer: Transfer) -> Duration:
        """Return the duration of one collective.

        Before bytes flow: the latency α of the slowest link class in use and μ for each of the m messages but the
        first, α + (m − 1)·μ; in a ring, where messages wait for each other, m·α. While they flow: the longest time of
        any limit, out of or into a rank or a node, over the links of one class.
        """
        used = [link for link, amount in transfer.out.items() if link != "self" and amount.mean_R.any()]
        if not used:
            return Duration(latency_s=0.0, volume_s=0.0, limit="")
        links = {name: self.link(name) for name in used}
        slowest = max(links.values(), key=lambda link: link.latency_s.value)
        latency_s = slowest.latency_s.value
        if transfer.ring:
            latency_s *= transfer.sends
        else:
            started_s = sum(transfer.messages[name] * link.message_s.value for name, link in links.items())
            latency_s += started_s - slowest.message_s.value
        volume_s, limit = max(limit for link in used for limit in self._limits(transfer, link))
        return Duration(latency_s=latency_s, volume_s=volume_s, limit=limit)

    def _limits(self, transfer: Transfer, link: Network) -> Iterator[tuple[float, str]]:
        """Yield the seconds of each limit of a link class, and its name."""
        described, where, layout = self.link(link), WHERE[link], self.layout
        rate, messages = described.rate, self._opposed(transfer, link)
        of_all = messages * layout.local * layout.groups_per_node
        out, into = transfer.out[link], transfer.into[link]
        for one, other in ((out, into), (into, out)):
            of_rank = self._of_ranks(_volume(one, other, messages, described))
            of_node = self._of_nodes(_volume(self._nodes(one), self._nodes(other), of_all, described))
            if transfer.ring and link == "across":
                # NCCL lays rings over all ports of a node, so that only their total rate counts.
                yield of_node / min(rate.node, rate.rank * layout.local), f"node, {where}"
            else:
                yield of_rank / rate.rank, f"rank, {where}"
                yield of_node / rate.node, f"node, {where}"

    def _opposed(self, transfer: Transfer, link: Network) -> int:
        """Return how many messages a rank sends to ranks that send to it at the same time."""
        if not transfer.ring:
            return transfer.messages[link]
        return RING_HALVES if self.layout.ranks == 2 else 0  # else the next rank is not the one before

    def _nodes(self, amount: RowDistribution) -> RowDistribution:
        return amount.summed(self.layout.node_R).repeated(self.layout.groups_per_node)

    def _of_ranks(self, amount: RowDistribution) -> float:
        return amount.mean if self.balanced else amount.largest(self.layout.groups)

    def _of_nodes(self, amount: RowDistribution) -> float:
        return amount.mean if self.balanced else amount.largest(self.layout.groups // self.layout.groups_per_node)


def _volume(one: RowDistribution, other: RowDistribution, messages: int, link: Link) -> RowDistribution:
    """Return the bytes that count against a limit: those that go one way, and one message of the other direction.

    Where the two directions of a pair take turns, pairs that share a limit fill each other's pauses. The last of them
    still begins to send only after it has received.
    """
    if link.turns is None or not messages:
        return one
    return one + other.scaled(link.turns.value / messages)
