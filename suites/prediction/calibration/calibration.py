"""Machine description of the ranks that a probe has measured."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from typing import Literal, get_args

import numpy as np
import torch

from ....kernels.hardware.device_names import device_name
from ....kernels.problem import DType
from ..collectives import exchange
from ..layout import Layout
from ..machine import DeviceMemory, Figure, Link, MachineDescription, ProductRates
from .link_fit import Fit, Observation, fit
from .links import Exchange
from .probe import Probe

DIGITS = 4  # significant digits of written figures


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """A machine description, and how well the model of its links agrees with the measurements."""

    machine: MachineDescription
    fit: Fit

    @property
    def agreement(self) -> str:
        """The agreement as the end of a sentence."""
        return _agreement(self.fit)

    def lines(self) -> Iterator[str]:
        """Yield the measured rates as text, a line for each class of links and each dtype."""
        machine = self.machine
        for name, link in (("inside a node", machine.node), ("across nodes", machine.across)):
            if link is not None:
                yield (
                    f"{name:<14} {1e6 * link.latency_s.value:.0f} µs,"
                    f" {1e6 * link.message_s.value:.0f} µs for each further message;"
                    f" {link.rate.rank / 1e9:.3g} GB/s of a rank, {link.rate.node / 1e9:.3g} GB/s of a node"
                )
        for dtype, products in machine.products.items():
            yield (
                f"{dtype:<14} {products.rate.rank / 1e12:.3g} TFLOP/s of a rank,"
                f" {products.rate.node / 1e12:.3g} TFLOP/s of a node, in products of experts"
            )
        memory = machine.memory
        yield f"{'copies':<14} {memory.rate.rank / 1e9:.3g} GB/s of a rank, {memory.rate.node / 1e9:.3g} GB/s of a node"
        yield f"{'a layer':<14} {1e6 * machine.layer_s.value:.0f} µs of overhead"


def calibrate(probe: Probe, name: str, device_type: Literal["cpu", "cuda"]) -> Calibration:
    """Describe the probed ranks. The measured rates already are those reached in practice."""
    layout = Layout(ranks=probe.ranks, ranks_per_node=probe.ranks_per_node)
    fitted = fit([_observation(one, layout) for one in probe.exchanges], layout)
    local, source = layout.local, f"fitted, and {_agreement(fitted)}"
    machine = MachineDescription(
        name=name,
        summary=(
            f"{layout.ranks} ranks on nodes of {local}, each {device_name(torch.device(device_type))}, measured"
            f" {datetime.now(UTC):%Y-%m-%d} with torch {metadata.version('torch')}"
            f"{f'; {probe.beside_others}' if probe.beside_others else ''}"
        ),
        ranks_per_node=probe.ranks_per_node,
        layer_s=_figure(probe.layer_s, "measured: small operations, of which a layer has about a hundred"),
        node=_link(fitted.links.get("node"), source),
        across=_link(fitted.links.get("across"), source),
        memory=DeviceMemory(
            bytes=_figure(probe.memory_bytes, "available to a rank when it was measured"),
            bytes_per_s=_figure(probe.copies.alone, "measured: a copy by one rank"),
            node_bytes_per_s=_figure(local * probe.copies.together, "measured: a copy by every rank at once"),
            reached=_figure(1.0, "the measured rate is the reached one"),
        ),
        products={
            dtype: ProductRates(
                flops_per_s=_figure(rates.alone, "measured: a product by one rank"),
                node_flops_per_s=_figure(local * rates.together, "measured: a product by every rank at once"),
                reached=_figure(probe.grouped[dtype], "measured: small products with weights of their own"),
            )
            for dtype in get_args(DType)
            if (rates := probe.products.get(dtype)) is not None
        },
    )
    return Calibration(machine=machine, fit=fitted)


def _agreement(fitted: Fit) -> str:
    errors = fitted.errors
    return (
        f"differs from {len(errors)} measured exchanges by {100 * fitted.median_error:.0f} % in the median and"
        f" {100 * errors[-1]:.0f} % at worst"
    )


def _observation(measured: Exchange, layout: Layout) -> Observation:
    sent_RR, joined_RR = np.zeros((layout.ranks, layout.ranks)), np.zeros((layout.ranks, layout.ranks), dtype=bool)
    for group in measured.pattern.groups:
        joined_RR[np.ix_(group, group)] = True
    for hop, size in measured.pattern.sent(measured.size).items():
        sent_RR[hop] = size
    return Observation(transfer=exchange(layout, sent_RR, joined_RR), seconds=measured.seconds)


def _link(fitted: Link | None, source: str) -> Link | None:
    """Return a link with rounded figures that name their source."""
    if fitted is None:
        return None
    return Link(**{key: _figure(figure["value"], source) for key, figure in fitted.model_dump().items()})


def _figure(value: float, source: str) -> Figure:
    return Figure(value=float(f"{value:.{DIGITS}g}"), source=source)
