"""Fits of links to generated times, with or without noise, recover the figures used to generate them."""

from __future__ import annotations

import numpy as np
import pytest
from machine_descriptions import link

from moebench.suites.prediction.calibration.link_fit import Observation, fit
from moebench.suites.prediction.collective_time import CollectiveTimes
from moebench.suites.prediction.collectives import Transfer, exchange
from moebench.suites.prediction.layout import Layout
from moebench.suites.prediction.machine import Link

INSIDE = link(latency_s=2e-4, message_s=5e-5, bytes_per_s=3e9, node_bytes_per_s=4e9, turns=0.2)
ACROSS = link(latency_s=4e-4, message_s=1e-4, bytes_per_s=2.4e7, node_bytes_per_s=2.4e7, turns=1.0)
SIZES = (256, 16384, 262144, 1 << 20, 1 << 22)


def transfers(layout: Layout) -> list[Transfer]:
    """Return transfers of all kinds: among all ranks, among nodes, inside nodes, and of pairs each way and one way."""
    ranks = np.arange(layout.ranks)
    same_node = layout.node_R[:, None] == layout.node_R
    same_place = layout.local_R[:, None] == layout.local_R
    apart = ~np.eye(layout.ranks, dtype=bool)
    joined = [apart, same_node & apart, same_place & apart]
    one_way = []
    for other in (1, layout.ranks_per_node):
        pair = np.isin(ranks, (0, other))
        joined.append(np.outer(pair, pair) & apart)
        one_way.append(joined[-1])
    found = [exchange(layout, size * who.astype(float), who) for who in joined for size in SIZES]
    for who in one_way:
        sent = who.astype(float)
        sent[1:] = 0
        found += [exchange(layout, size * sent, who) for size in SIZES]
    return [one for one in found if any(amount.mean_R.any() for name, amount in one.out.items() if name != "self")]


def timed(layout: Layout, *, noise: float = 0.0, busy: float = 0.0, seed: int = 0) -> list[Observation]:
    """Return observations by the links, with noise on every repetition, some of which meet a busy moment of 5 ms."""
    rng = np.random.default_rng(seed)
    clock = CollectiveTimes(link={"node": INSIDE, "across": ACROSS}.__getitem__, layout=layout)
    found = []
    for one in transfers(layout):
        seconds = clock.transfer(one).seconds * np.exp(noise * rng.normal(size=9))
        seconds += 5e-3 * (rng.random(9) < busy)
        found.append(Observation(transfer=one, seconds=seconds.tolist()))
    return found


def rates(found: Link) -> tuple[float, float]:
    return (found.rate.rank, found.rate.node)


def test_exact_times_give_the_figures_back() -> None:
    layout = Layout(ranks=4, ranks_per_node=2)
    found = fit(timed(layout), layout)
    assert found.median_error < 0.01
    assert found.errors[-1] < 0.1
    assert not found.bad
    for fitted, link_of in ((found.links["node"], INSIDE), (found.links["across"], ACROSS)):
        assert rates(fitted) == pytest.approx(rates(link_of), rel=0.15)  # time may be fitted to turns or to the node
        assert fitted.latency_s.value == pytest.approx(link_of.latency_s.value, rel=0.1)
    assert found.links["across"].message_s.value == pytest.approx(1e-4, rel=0.3)
    turns = found.links["across"].turns
    assert turns is not None
    assert turns.value == pytest.approx(1.0, abs=0.05)


@pytest.mark.parametrize("seed", range(3))
def test_busy_moments_hardly_move_them(seed: int) -> None:
    layout = Layout(ranks=4, ranks_per_node=2)
    found = fit(timed(layout, noise=0.1, busy=0.15, seed=seed), layout)
    assert rates(found.links["across"]) == pytest.approx(rates(ACROSS), rel=0.1)
    assert found.links["across"].latency_s.value == pytest.approx(4e-4, rel=0.5)
    assert not found.bad


def test_times_that_have_nothing_to_do_with_sizes_are_a_bad_fit() -> None:
    layout = Layout(ranks=4, ranks_per_node=2)
    rng = np.random.default_rng(0)
    noise = [
        Observation(transfer=one.transfer, seconds=np.exp(rng.uniform(-9, 0) + 0.01 * rng.normal(size=9)).tolist())
        for one in timed(layout)
    ]
    assert fit(noise, layout).bad


def test_links_that_nothing_used_are_not_made_up() -> None:
    layout = Layout(ranks=4, ranks_per_node=4)
    assert set(fit(timed(layout), layout).links) == {"node"}
    apart = Layout(ranks=3, ranks_per_node=1)
    assert set(fit(timed(apart), apart).links) == {"across"}
