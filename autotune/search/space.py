"""A search space: the configurations of a kernel that can be built for a problem, as points on axes."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ...common.errors import UserError

if TYPE_CHECKING:
    import torch

    from ...kernels.config import Config
    from ...kernels.kernel import Kernel
    from ...kernels.problem import Problem

Value = int | float | str | bool

NUMBER = re.compile(r"(?<![\w.])\d+(?:\.\d+)?(?!\w)")
BLANK = "…"


class NoConfiguration(UserError, ValueError):
    """A kernel of which nothing can be built for a problem; the message names the constraints."""


@dataclass(frozen=True)
class Axis:
    """One tunable choice and the values it takes: numbers ascending, words and truths as they first appear.

    ``ordered`` says whether a step from one value to the next means anything.
    """

    name: str
    values: tuple[Value, ...]
    ordered: bool

    @staticmethod
    def of(name: str, values: Sequence[Value]) -> Axis:
        """The axis of the values that configurations have, repetitions included."""
        ordered = not any(isinstance(value, (bool, str)) for value in values)
        distinct = tuple(dict.fromkeys(values))
        return Axis(name, tuple(sorted(distinct, key=float)) if ordered else distinct, ordered)


@dataclass(frozen=True, kw_only=True)
class Space:
    """The distinct configurations of ``kernel`` that can be built, the default first.

    ``faults`` counts the configurations that each constraint excludes, by its words with the numbers blanked, and
    ``examples`` holds one of those sentences whole. The places in ``unproven`` are those of configurations that rely on
    what has never run on hardware.

    Raises:
        ValueError: when a configuration has other names in it than the default.
    """

    kernel: str
    configs: tuple[Config, ...]
    faults: Mapping[str, int] = field(default_factory=dict)
    examples: Mapping[str, str] = field(default_factory=dict)
    unproven: frozenset[int] = frozenset()

    def __post_init__(self) -> None:
        for config in self.configs:
            if config.keys() != self.default.keys():
                raise ValueError(
                    f"{self.kernel}: the configuration {dict(config)} has other names in it than the default "
                    f"{dict(self.default)}: give every name in each"
                )

    @staticmethod
    def of(kernel: Kernel, problem: Problem, device: torch.device) -> Space:
        """What can be built of a kernel's space for a problem on a device.

        Where the declared default cannot be built, the first configuration that can takes its place.

        Raises:
            NoConfiguration: when nothing can be built.
        """
        declared = _distinct(kernel.space(problem, device))
        reasons = {index: kernel.fault(problem, config, device) for index, config in enumerate(declared)}
        faults = {index: reason for index, reason in reasons.items() if reason is not None}
        if len(faults) == len(declared):
            counts = Counter(NUMBER.sub(BLANK, fault) for fault in faults.values())
            why = "; ".join(f"{fault} ({count} of them)" for fault, count in counts.most_common())
            raise NoConfiguration(
                f"{kernel.name} has no configuration for {problem.key}: {why or 'it declares none'}; "
                "give another shape or another kernel"
            )
        # In two steps: the declared default may be among those that cannot be built.
        first = next(index for index in reasons if index not in faults)
        order = [first, *(index for index in reasons if index != first)]
        configs = tuple(declared[index] for index in order)
        unproven = frozenset(place for place, config in enumerate(configs) if kernel.unproven(config))
        whole = Space(kernel=kernel.name, configs=configs, unproven=unproven)
        return whole.without({place: faults[index] for place, index in enumerate(order) if index in faults})

    @staticmethod
    def among(kernel: str, configs: Sequence[Config]) -> Space:
        """The space of configurations that were recorded, the default first."""
        return Space(kernel=kernel, configs=tuple(_distinct(configs)))

    def without(self, faults: Mapping[int, str]) -> Space:
        """The same space less some configurations, each with the reason; never the default."""
        counts = Counter(self.faults)
        counts.update(NUMBER.sub(BLANK, fault) for fault in faults.values())
        kept = [index for index in range(len(self)) if index not in faults]
        return Space(
            kernel=self.kernel,
            configs=tuple(self.configs[index] for index in kept),
            unproven=frozenset(place for place, index in enumerate(kept) if index in self.unproven),
            faults=dict(counts.most_common()),
            examples={
                **self.examples,
                **{NUMBER.sub(BLANK, fault): fault for fault in reversed(list(faults.values()))},
            },
        )

    def __len__(self) -> int:
        return len(self.configs)

    @property
    def default(self) -> Config:
        return self.configs[0]

    @property
    def declared(self) -> int:
        """How many configurations there are with those that cannot be built."""
        return len(self) + sum(self.faults.values())

    @cached_property
    def axes(self) -> tuple[Axis, ...]:
        """The choices that differ between configurations, as declared."""
        everything = (Axis.of(name, [config[name] for config in self.configs]) for name in self.default)
        return tuple(axis for axis in everything if len(axis.values) > 1)

    @property
    def fixed(self) -> Config:
        """The choices that are the same in every configuration."""
        varied = {axis.name for axis in self.axes}
        return {name: value for name, value in self.default.items() if name not in varied}

    def index(self, config: Mapping[str, object]) -> int:
        """Where a configuration stands, which may come from a record.

        Raises:
            ValueError: when the space does not hold it.
        """
        try:
            return self._places[frozenset(config.items())]
        except (KeyError, TypeError):  # a record may hold what no configuration does, a list say
            raise ValueError(
                f"{dict(config)} is none of the {len(self)} configurations of {self.kernel}: give one of its space"
            ) from None

    def coordinates(self, index: int) -> tuple[int, ...]:
        """The place of a configuration's value on each axis."""
        return tuple(int(place) for place in self._coordinates[index])

    def features(self) -> NDArray[np.float64]:
        """Coordinates of all configurations, (configurations, axes), scaled to [0, 1] on each axis."""
        last = np.array([len(axis.values) - 1 for axis in self.axes], dtype=np.float64)
        return self._coordinates / last

    def neighbours(self, index: int) -> tuple[int, ...]:
        """The configurations next to one: those with no third configuration nearer to both than they are to each other.

        That is the relative neighbourhood graph (Toussaint 1980). It is symmetrical, holds every minimum spanning
        tree and so connects the space, whatever constraints have cut out of it; on a full grid it is the steps along
        one axis. A distance is the steps along ordered axes plus the number of unordered axes that differ.
        """
        mine = self._distances[index]
        beaten = (np.maximum(mine[:, None], self._distances) < mine).any(axis=0)
        return tuple(int(other) for other in np.flatnonzero(~beaten) if other != index)

    def distances(self, coordinates: Sequence[int]) -> NDArray[np.int64]:
        """How far every configuration is from a point, which need not be one of them."""
        ordered = np.array([axis.ordered for axis in self.axes], dtype=bool)
        steps = np.abs(self._coordinates - np.asarray(coordinates, dtype=np.int64))
        distances: NDArray[np.int64] = np.where(ordered, steps, steps > 0).sum(axis=1)
        return distances

    @cached_property
    def _places(self) -> dict[frozenset[tuple[str, object]], int]:
        return {frozenset(config.items()): index for index, config in enumerate(self.configs)}

    @cached_property
    def _coordinates(self) -> NDArray[np.int64]:
        rows = [[axis.values.index(config[axis.name]) for axis in self.axes] for config in self.configs]
        return np.array(rows, dtype=np.int64).reshape(len(self), len(self.axes))

    @cached_property
    def _distances(self) -> NDArray[np.int16]:
        rows = [self.distances(self.coordinates(index)) for index in range(len(self))]
        return np.stack(rows).astype(np.int16)  # `neighbours` reads all of it, and is quicker so


def _distinct(configs: Sequence[Config]) -> list[Config]:
    first: dict[frozenset[tuple[str, Value]], Config] = {}
    for config in configs:
        first.setdefault(frozenset(config.items()), config)
    return list(first.values())
