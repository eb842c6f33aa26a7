"""From a probe to the description of the machine that was probed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..kernels.cluster.fit import Fit, Observation, fit
from ..kernels.cluster.layout import Layout
from ..kernels.cluster.machine import Figure, Link, Machine, Memory, Products
from ..kernels.cluster.transfer import exchange
from ..results.links import Exchange
from ..results.probe import Probe

DIGITS = 4  # that figures are written with


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """A machine, and how well its links agree with what was measured."""

    machine: Machine
    fit: Fit


def calibrate(probe: Probe, name: str, summary: str) -> Calibration:
    """Describe the ranks that were probed; what practice reaches of rates is in the rates already."""
    layout = Layout(ranks=probe.ranks, ranks_per_node=probe.ranks_per_node)
    fitted = fit([_observation(one, layout) for one in probe.exchanges], layout)
    said = (
        f"fitted to {len(probe.exchanges)} exchanges of {probe.ranks} ranks; median error"
        f" {100 * fitted.median_error:.0f} %, worst {100 * fitted.errors[-1]:.0f} %"
    )
    local = layout.local
    machine = Machine(
        name=name,
        summary=summary,
        ranks_per_node=probe.ranks_per_node,
        layer_s=_figure(probe.layer_s, "measured: small operations, of which a layer has about a hundred"),
        node=_link(fitted.links.get("node"), said),
        across=_link(fitted.links.get("across"), said),
        memory=Memory(
            bytes=_figure(probe.memory_bytes, "available to a rank when it was measured"),
            bytes_per_s=_figure(probe.copies.alone, "measured: a copy by one rank"),
            node_bytes_per_s=_figure(local * probe.copies.together, "measured: a copy by every rank at once"),
            reached=_figure(1.0, "it is what was reached"),
        ),
        products={
            dtype: Products(
                flops_per_s=_figure(rates.alone, "measured: a product by one rank"),
                node_flops_per_s=_figure(local * rates.together, "measured: a product by every rank at once"),
                reached=_figure(probe.grouped[dtype], "measured: small products with weights of their own"),
            )
            for dtype, rates in probe.products.items()
        },
    )
    return Calibration(machine=machine, fit=fitted)


def _observation(measured: Exchange, layout: Layout) -> Observation:
    sent_RR, joined_RR = np.zeros((layout.ranks, layout.ranks)), np.zeros((layout.ranks, layout.ranks), dtype=bool)
    for group in measured.pattern.groups:
        joined_RR[np.ix_(group, group)] = True
    for hop, size in measured.pattern.sent(measured.size).items():
        sent_RR[hop] = size
    return Observation(transfer=exchange(layout, sent_RR, joined_RR), seconds=measured.seconds)


def _link(fitted: Link | None, said: str) -> Link | None:
    """With figures rounded, and saying where they are from."""
    if fitted is None:
        return None
    return Link(**{key: _figure(figure["value"], said) for key, figure in fitted.model_dump().items()})


def _figure(value: float, source: str) -> Figure:
    return Figure(value=float(f"{value:.{DIGITS}g}"), source=source)
