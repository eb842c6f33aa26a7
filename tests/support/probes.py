"""Probes of a machine: exchanges that a test makes up, with the rates of one rank and of all."""

from __future__ import annotations

from moebench.suites.prediction.calibration.links import Exchange
from moebench.suites.prediction.calibration.probe import Probe
from moebench.suites.prediction.calibration.rank_group import RankRates


def probed(ranks: int, ranks_per_node: int, exchanges: list[Exchange]) -> Probe:
    return Probe(
        ranks=ranks,
        ranks_per_node=ranks_per_node,
        exchanges=exchanges,
        products={"float32": RankRates(alone=8e10, together=4.0001234e10)},
        grouped={"float32": 0.75},
        copies=RankRates(alone=4e10, together=2e10),
        memory_bytes=8_000_000_000,
        layer_s=4e-4,
    )
