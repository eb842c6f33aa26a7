"""All-to-alls that measure links: between all ranks, inside nodes, across them, in a pair, one way and both ways."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import dataclass, field

from .rank_group import RankGroup

SIZES = tuple(1 << exponent for exponent in (8, 14, 17, 19, 20, 21, 22))  # bytes of a message
LEAST, MOST = 3, 25  # rounds of all exchanges
ROUNDS_S = 15.0  # seconds after which no further round begins; on slow links the first rounds take longer
PATIENCE_S = 0.5  # an exchange that takes longer is the largest of its pattern


@dataclass(frozen=True, kw_only=True)
class Pattern:
    """Groups of ranks that exchange together. Only ``senders`` have bytes to send, all ranks when None."""

    name: str
    groups: tuple[tuple[int, ...], ...]
    senders: tuple[int, ...] | None = None

    def sent(self, size: int) -> Mapping[tuple[int, int], int]:
        """Return the bytes by source and target, ``size`` in a message."""
        return {
            (source, target): size
            for group in self.groups
            for source in (group if self.senders is None else self.senders)
            for target in group
            if source != target
        }


@dataclass(frozen=True, kw_only=True)
class Exchange:
    """A pattern with ``size`` bytes in a message: seconds of the slowest rank, once in each round."""

    pattern: Pattern
    size: int
    seconds: list[float] = field(default_factory=list)

    @property
    def median_s(self) -> float:
        return statistics.median(self.seconds)


def patterns(ranks: int, ranks_per_node: int) -> list[Pattern]:
    """Return the patterns: all ranks, nodes, equal places of all nodes, and pairs, both ways and from one rank only."""
    everyone = tuple(range(ranks))
    nodes = tuple(everyone[first : first + ranks_per_node] for first in range(0, ranks, ranks_per_node))
    places = tuple(everyone[place::ranks_per_node] for place in range(ranks_per_node))
    found = [
        Pattern(name="everyone", groups=(everyone,)),
        Pattern(name="one to all", groups=(everyone,), senders=(0,)),
    ]
    if len(nodes) > 1 and ranks_per_node > 1:
        found += [Pattern(name="inside", groups=nodes), Pattern(name="across", groups=places)]
    if ranks_per_node > 1:
        found += _pair("inside", 1)
    if len(nodes) > 1:
        found += _pair("across", ranks_per_node)
    return found


def _pair(where: str, other: int) -> list[Pattern]:
    return [
        Pattern(name=f"a pair {where}", groups=((0, other),)),
        Pattern(name=f"one way {where}", groups=((0, other),), senders=(0,)),
    ]


def exchanges(team: RankGroup) -> list[Exchange]:
    """Measure every pattern in every size, in rounds, so that a busy moment hits all of them."""
    found = []
    for pattern in patterns(team.ranks, team.ranks_per_node):
        for size in SIZES:
            found.append(Exchange(pattern=pattern, size=size))
            if team.exchange(pattern.groups, pattern.sent(size)) > PATIENCE_S:  # which also connects the ranks
                break
    spent_s = 0.0
    for turn in range(MOST):
        if turn >= LEAST and spent_s > ROUNDS_S:
            break
        for one in found:
            one.seconds.append(team.exchange(one.pattern.groups, one.pattern.sent(one.size)))
        spent_s = sum(sum(one.seconds) for one in found)
    return found
