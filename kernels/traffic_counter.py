"""What a rank has sent: bytes by how far they went, and messages."""

from __future__ import annotations

from dataclasses import dataclass, field

from .nodes import LINKS, Link, NodeTopology


@dataclass
class TrafficCounter:
    """Payload bytes and messages of one ``rank``; what it keeps for itself counts as bytes only.

    ``rows`` are the tokens' copies that left the rank, ``routes`` how many would have, had every route had a copy.
    """

    topology: NodeTopology
    rank: int
    bytes: dict[Link, int] = field(default_factory=lambda: dict.fromkeys(LINKS, 0))
    messages: int = 0
    rows: int = 0
    routes: int = 0

    def send(self, target: int, size: int, messages: int = 1) -> None:
        """Note ``size`` bytes to a rank; nothing is sent where there are none."""
        link = self.topology.link(self.rank, target)
        self.bytes[link] += size
        if size and link != "self":
            self.messages += messages
