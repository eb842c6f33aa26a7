"""The identity of a measurement: the one answer to whether two records are about the same thing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .record import Point


@dataclass(frozen=True, kw_only=True)
class Identity:
    """Identity of one measurement. A field that does not count for a question is empty: see `only` and `without`.

    ``series`` is the label of the line (`Point.line`), ``problem`` the key of the problem, ``config`` the configuration
    as text and ``source`` the hash of the kernel's sources. Machines are not part of it: `Environment.differs` compares
    them, and knows which fields do not count.
    """

    suite: str = ""
    series: str = ""
    x: float | str = ""
    cache: str = ""
    problem: str = ""
    kernel: str = ""
    config: str = ""
    source: str = ""

    @classmethod
    def at(cls, point: Point, *, problem: str, kernel: str, config: str = "", source: str = "") -> Identity:
        """Return the identity of a kernel on a problem at a point of a suite."""
        return cls(
            suite=point.suite,
            series=point.line,
            x=point.x,
            cache=point.cache,
            problem=problem,
            kernel=kernel,
            config=config,
            source=source,
        )

    def without(self, *names: str) -> Identity:
        """Return the same with these fields empty."""
        return replace(self, **dict.fromkeys(names, ""))

    def only(self, *names: str) -> Identity:
        """Return the same with all fields empty but these."""
        return Identity(**{name: value for name, value in asdict(self).items() if name in names})

    def plain(self) -> dict[str, float | str]:
        """Return the fields that are not empty, by name."""
        return {name: value for name, value in asdict(self).items() if value != ""}


def config_text(config: Mapping[str, object]) -> str:
    """Return a configuration as one text that does not depend on the order of its names."""
    return ",".join(f"{name}={value}" for name, value in sorted(config.items()))
