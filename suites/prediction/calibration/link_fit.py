"""Fit of links: the figures with which the model comes nearest to measured exchanges."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import get_args

import numpy as np
from scipy.optimize import least_squares

from ..collective_time import CollectiveTimes
from ..collectives import Transfer
from ..expected_rows import Floats
from ..layout import Layout
from ..machine import Figure, Link, Network

SURE = 0.05  # least relative error of an exchange, however alike its repetitions are
STAYS = 0.1  # pull of a parameter towards its start: decides only what no exchange determines
BAD = 0.25  # median error above which a prediction cannot separate two dispatchers


@dataclass(frozen=True, kw_only=True)
class Observation:
    """One all-to-all, in bytes, and the seconds that its slowest rank took each time."""

    transfer: Transfer
    seconds: Sequence[float]

    @property
    def median_s(self) -> float:
        return statistics.median(self.seconds)

    @property
    def error(self) -> float:
        """Standard error of the logarithm of the median: 1.25 deviations over √n, the deviation from the quartiles."""
        low, high = np.quantile(np.log(self.seconds), (0.25, 0.75))
        return math.hypot(SURE, 1.25 * (high - low) / 1.35 / math.sqrt(len(self.seconds)))


@dataclass(frozen=True, kw_only=True)
class Fit:
    """Links by class, and for every observation the time of the model over the measured one."""

    links: Mapping[Network, Link]
    ratios: Sequence[float]

    @property
    def errors(self) -> list[float]:
        """Differences of modelled and measured times as shares of the smaller one, ascending."""
        return sorted(max(ratio, 1 / ratio) - 1 for ratio in self.ratios)

    @property
    def median_error(self) -> float:
        return statistics.median(self.errors)

    @property
    def bad(self) -> bool:
        return self.median_error > BAD


def fit(observations: Sequence[Observation], layout: Layout) -> Fit:
    """Fit the links of every class that some observation uses, all together.

    Robust least squares (soft L1) of logarithms, so that microseconds count as much as seconds. Each difference is in
    units of that observation's error, because some exchanges meet busier moments than others.
    """
    classes = [link for link in get_args(Network) if any(_uses(one.transfer, link) for one in observations)]
    measured_s = np.array([one.median_s for one in observations])
    error = np.array([one.error for one in observations])

    def links(parameters: Floats) -> Mapping[Network, Link]:
        shares = np.split(parameters, len(classes))
        return {name: _link(share, layout.local) for name, share in zip(classes, shares, strict=True)}

    def logarithms(parameters: Floats) -> Floats:
        """Return the logarithms of the ratios of modelled to measured times."""
        clock = CollectiveTimes(link=links(parameters).__getitem__, layout=layout)
        ratios: Floats = np.log([clock.transfer(one.transfer).seconds for one in observations]) - np.log(measured_s)
        return ratios

    low, high = (np.tile(bound, len(classes)) for bound in BOUNDS)
    start = np.clip(np.concatenate([_start(observations, name) for name in classes]), low, high)

    def residuals(parameters: Floats) -> Floats:
        return np.concatenate([logarithms(parameters) / error, STAYS * (parameters - start)])

    found = least_squares(residuals, start, bounds=(low, high), loss="soft_l1")
    return Fit(links=links(found.x), ratios=np.exp(logarithms(found.x)).tolist())


# Logarithms of seconds before the first byte, of seconds a message and of bytes/s; how much more all ranks of a node
# send together than one of them, as a share of what they would send if they shared nothing; the share of turns.
BOUNDS = (np.array([-20.0, -20.0, 10.0, 0.0, 0.0]), np.array([3.0, 3.0, 32.0, 1.0, 1.0]))


def _start(observations: Sequence[Observation], link: Network) -> Floats:
    """Return the start of the fit: the quickest exchange, a tenth of it per message, and the highest rate of a rank."""
    using = [one for one in observations if _uses(one.transfer, link)]
    least_s = min(one.median_s for one in using)
    bytes_per_s = max(one.transfer.out[link].largest() / one.median_s for one in using)
    return np.array([*np.log([least_s, least_s / 10, bytes_per_s]), 0.5, 0.5])


def _uses(transfer: Transfer, link: Network) -> bool:
    return link in transfer.out and bool(transfer.out[link].mean_R.any())


def _link(parameters: Floats, ranks: int) -> Link:
    latency_s, message_s, bytes_per_s = np.exp(parameters[:3]).tolist()
    apart, turns = parameters[3:].tolist()
    return Link(
        latency_s=_figure(latency_s),
        message_s=_figure(message_s),
        bytes_per_s=_figure(bytes_per_s),
        node_bytes_per_s=_figure(bytes_per_s * (1 + apart * (ranks - 1))),
        turns=_figure(turns),
        reached=_figure(1.0),
    )


def _figure(value: float) -> Figure:
    return Figure(value=value, source="fitted")
