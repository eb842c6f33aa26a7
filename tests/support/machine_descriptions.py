"""Machine descriptions for tests, with figures that are easy to calculate with."""

from __future__ import annotations

from moebench.suites.prediction.machine import DeviceMemory, Figure, Link, MachineDescription, ProductRates


def figure(value: float) -> Figure:
    return Figure(value=value, source="a test")


def link(
    *,
    latency_s: float = 0.0,
    message_s: float = 0.0,
    bytes_per_s: float = 1e6,
    node_bytes_per_s: float | None = None,
    turns: float | None = None,
) -> Link:
    return Link(
        latency_s=figure(latency_s),
        message_s=figure(message_s),
        bytes_per_s=figure(bytes_per_s),
        node_bytes_per_s=None if node_bytes_per_s is None else figure(node_bytes_per_s),
        turns=None if turns is None else figure(turns),
        reached=figure(1.0),
    )


def cluster(
    *,
    ranks_per_node: int = 2,
    node: Link | None = None,
    across: Link | None = None,
    flops_per_s: float = 1e9,
    node_flops_per_s: float | None = None,
    bytes_per_s: float = 1e12,
    layer_s: float = 0.0,
    memory_bytes: float = 1e12,
) -> MachineDescription:
    """Return a machine that has a product rate for float32 only."""
    return MachineDescription(
        name="imagined",
        summary="of a test",
        ranks_per_node=ranks_per_node,
        layer_s=figure(layer_s),
        node=node or link(),
        across=across or link(),
        memory=DeviceMemory(bytes=figure(memory_bytes), bytes_per_s=figure(bytes_per_s), reached=figure(1.0)),
        products={
            "float32": ProductRates(
                flops_per_s=figure(flops_per_s),
                node_flops_per_s=None if node_flops_per_s is None else figure(node_flops_per_s),
                reached=figure(1.0),
            )
        },
    )
