"""Counter of what a rank has sent: messages, and bytes by link."""

from __future__ import annotations

from dataclasses import dataclass, field

from .nodes import LINKS, Link, NodeTopology


@dataclass
class TrafficCounter:
    """Payload bytes and messages of one ``rank``; rows that stay on the rank count as bytes only.

    ``rows`` counts the copies of tokens that left the rank, ``routes`` how many would have left with one copy for each
    route.
    """

    topology: NodeTopology
    rank: int
    bytes: dict[Link, int] = field(default_factory=lambda: dict.fromkeys(LINKS, 0))
    messages: int = 0
    rows: int = 0
    routes: int = 0

    def send(self, target: int, size: int, messages: int = 1) -> None:
        """Count ``size`` bytes sent to a rank; without bytes there is no message."""
        link = self.topology.link(self.rank, target)
        self.bytes[link] += size
        if size and link != "self":
            self.messages += messages
