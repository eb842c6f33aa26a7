"""The search space: the configurations of a kernel that can be built for a problem, as points on axes."""

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
    """No configuration of a kernel can be built for a problem; the message names the constraints."""


@dataclass(frozen=True)
class Axis:
    """One tunable choice and its values: numbers ascending, strings and booleans in the order of appearance.

    ``ordered``: the values are numbers, so that the distance between two of them has a meaning.
    """

    name: str
    values: tuple[Value, ...]
    ordered: bool

    @staticmethod
    def of(name: str, values: Sequence[Value]) -> Axis:
        """Return the axis of the values that configurations have, repetitions included."""
        ordered = not any(isinstance(value, (bool, str)) for value in values)
        distinct = tuple(dict.fromkeys(values))
        return Axis(name, tuple(sorted(distinct, key=float)) if ordered else distinct, ordered)


@dataclass(frozen=True, kw_only=True)
class Space:
    """The distinct configurations of ``kernel`` that can be built, the default first.

    ``faults`` counts the configurations that each constraint excludes, by its message with the numbers blanked, and
    ``examples`` holds one full message for each. ``unproven`` has the indices of configurations that rely on a feature
    that has never run on hardware.

    Raises:
        ValueError: when the names in a configuration differ from those of the default.
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
        """Return the configurations of a kernel that can be built for a problem on a device.

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
        """Return the space of recorded configurations, the default first."""
        return Space(kernel=kernel, configs=tuple(_distinct(configs)))

    def without(self, faults: Mapping[int, str]) -> Space:
        """Return the space without some configurations, each with the reason; the default must stay."""
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
        """The number of declared configurations, including those that cannot be built."""
        return len(self) + sum(self.faults.values())

    @cached_property
    def axes(self) -> tuple[Axis, ...]:
        """The choices that differ between configurations, in the declared order."""
        everything = (Axis.of(name, [config[name] for config in self.configs]) for name in self.default)
        return tuple(axis for axis in everything if len(axis.values) > 1)

    @property
    def fixed(self) -> Config:
        """The choices that are the same in every configuration."""
        varied = {axis.name for axis in self.axes}
        return {name: value for name, value in self.default.items() if name not in varied}

    def index(self, config: Mapping[str, object]) -> int:
        """Return the index of a configuration, which may come from a record.

        Raises:
            ValueError: when it is not in the space.
        """
        try:
            return self._places[frozenset(config.items())]
        except (KeyError, TypeError):  # a record may hold what no configuration does, a list say
            raise ValueError(
                f"{dict(config)} is none of the {len(self)} configurations of {self.kernel}: give one of its space"
            ) from None

    def features(self) -> NDArray[np.float64]:
        """Return the places of all configurations on the axes, (configurations, axes), scaled to [0, 1] on each."""
        rows = [[axis.values.index(config[axis.name]) for axis in self.axes] for config in self.configs]
        last = np.array([len(axis.values) - 1 for axis in self.axes], dtype=np.float64)
        return np.array(rows, dtype=np.float64).reshape(len(self), len(self.axes)) / last

    @cached_property
    def _places(self) -> dict[frozenset[tuple[str, object]], int]:
        return {frozenset(config.items()): index for index, config in enumerate(self.configs)}


def _distinct(configs: Sequence[Config]) -> list[Config]:
    first: dict[frozenset[tuple[str, Value]], Config] = {}
    for config in configs:
        first.setdefault(frozenset(config.items()), config)
    return list(first.values())
