"""Tests that a probe becomes a machine description, which predicts the times that were probed."""

from __future__ import annotations

import pytest
from machine_descriptions import link
from probes import probed

from moebench.suites.prediction.calibration.calibration import _observation, calibrate
from moebench.suites.prediction.calibration.links import SIZES, Exchange, patterns
from moebench.suites.prediction.calibration.probe import Probe
from moebench.suites.prediction.collective_time import CollectiveTimes
from moebench.suites.prediction.layout import Layout


def probe(ranks: int, ranks_per_node: int) -> Probe:
    """Return the probe of ranks whose links take the times of the model."""
    layout = Layout(ranks=ranks, ranks_per_node=ranks_per_node)
    links = {"node": link(latency_s=1e-4, bytes_per_s=4e9), "across": link(latency_s=3e-4, bytes_per_s=2.5e7)}
    clock = CollectiveTimes(link=links.__getitem__, layout=layout)
    exchanges = []
    for pattern in patterns(ranks, ranks_per_node):
        for size in SIZES:
            one = Exchange(pattern=pattern, size=size, seconds=[1.0])
            seconds = clock.transfer(_observation(one, layout).transfer).seconds
            exchanges.append(Exchange(pattern=pattern, size=size, seconds=[seconds] * 3))
    return probed(ranks, ranks_per_node, exchanges)


def test_a_machine_has_the_rates_of_one_rank_and_of_all_together() -> None:
    found = calibrate(probe(4, 2), "here", "cpu")
    machine = found.machine
    assert (machine.name, machine.ranks_per_node) == ("here", 2)
    assert machine.product_rate("float32").rank == pytest.approx(0.75 * 8e10)
    assert machine.product_rate("float32").node == pytest.approx(0.75 * 2 * 4e10)
    assert machine.products["float32"].node_flops_per_s is not None
    assert machine.products["float32"].node_flops_per_s.value == 8e10  # to four digits
    assert machine.memory.rate.node == pytest.approx(4e10)
    assert machine.link("across").rate.rank == pytest.approx(2.5e7, rel=0.05)
    assert machine.link("node").latency_s.value == pytest.approx(1e-4, rel=0.1)
    assert "4 ranks on nodes of 2" in machine.summary


def test_every_figure_says_how_well_it_fits() -> None:
    found = calibrate(probe(4, 2), "here", "cpu")
    assert not found.fit.bad
    across = found.machine.link("across")
    for figure in (across.latency_s, across.message_s, across.bytes_per_s, across.reached):
        assert figure.source.startswith("fitted, and differs from 56 measured exchanges by 0 % in the median")


def test_links_that_are_not_there_are_left_out() -> None:
    assert calibrate(probe(2, 2), "here", "cpu").machine.across is None
    assert calibrate(probe(2, 1), "here", "cpu").machine.node is None
