"""Forecast of one layer call on a cluster: time, bytes and memory, each with its parts.

Sending costs a latency, a time for each message, and the bytes over the tightest limit of a rank or a node (alpha-beta
with injection limits, as in LogGP). A collective takes as long as its largest share, estimated from the load. Compute
is a roofline. Weights of experts that several groups hold are not synchronised, which is no part of a layer call.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from ...kernels.problem import ELEMENT_BYTES, Problem
from ...kernels.problem.popularity import Choices
from .collective_time import CollectiveTimes
from .collectives import Transfer
from .dispatcher_traffic import FLOWS, Flow
from .expected_rows import RowDistribution
from .footprint import Footprint, footprint
from .layout import Layout
from .machine import LinkClass, MachineDescription
from .routing_distribution import RoutingDistribution

Kind = Literal["communication", "compute", "alone"]
"""The resource that a part occupies. Communication and compute can overlap, parts that are ``alone`` cannot."""

# A training step reads the weights twice and writes their gradients, and moves every row there and back again.
WEIGHT_PASSES = {"forward": 1, "train": 3}
ROW_PASSES = {"forward": 1, "train": 2}


@dataclass(frozen=True, kw_only=True)
class ForecastTime:
    """Seconds of one part in one chunk, or for ``alone`` in the whole call."""

    name: str
    kind: Kind
    seconds: float


@dataclass(frozen=True, kw_only=True)
class ForecastPart:
    """One part of the time of a call: seconds without overlap, and the same if all ranks had equal shares."""

    name: str
    seconds: float
    balanced_s: float


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """Forecast of one call of a dispatcher.

    ``hidden_s`` seconds of the ``parts`` overlap with others; ``balanced_s`` is the time of the call if all ranks had
    equal shares. ``sent`` are the bytes that a rank sends on average, by link class; ``messages`` is how many messages
    a rank sends.
    """

    dispatcher: str
    layout: Layout
    parts: tuple[ForecastPart, ...]
    hidden_s: float
    balanced_s: float
    sent: Mapping[LinkClass, float]
    messages: int
    memory: Footprint

    @property
    def seconds(self) -> float:
        """The time until the slowest rank is done."""
        return sum(part.seconds for part in self.parts) - self.hidden_s

    @property
    def straggling(self) -> float:
        """The share of the time that equal shares of all ranks would save."""
        return 1 - self.balanced_s / self.seconds if self.seconds else 0.0

    @property
    def bound(self) -> str:
        """The part that takes longest."""
        return max(self.parts, key=lambda part: part.seconds).name


@dataclass(frozen=True, kw_only=True)
class Setting:
    """Circumstances of a call: the problem of one expert-parallel group of ``layout`` on a machine, in ``chunks``."""

    machine: MachineDescription
    layout: Layout
    problem: Problem
    choices: Choices
    chunks: int = 1


def forecast(dispatcher: str, setting: Setting) -> Forecast:
    """Forecast one call of a dispatcher.

    The n chunks pass one after the other, and the communication of one overlaps with the compute of another:
    max(communication, compute) + min(communication, compute) / n. Each chunk has latencies, reads of the weights and
    its own overhead (the pipeline of Tutel and Comet). Counts are exchanged before the first chunk.

    Raises:
        InvalidMachine: when the machine lacks products of the problem's dtype, or links that the layout needs.
    """
    layout, chunks = setting.layout, setting.chunks
    distribution = RoutingDistribution(setting.problem, layout, setting.choices, chunks)
    flow = FLOWS[dispatcher](distribution)
    times = CollectiveTimes(link=setting.machine.link, layout=layout)
    slowest = list(_spent(setting, distribution, flow, times))
    equal = list(_spent(setting, distribution, flow, dataclasses.replace(times, balanced=True)))
    transfers = flow.transfers(setting.problem)
    return Forecast(
        dispatcher=dispatcher,
        layout=layout,
        parts=tuple(_parts(slowest, equal, chunks)),
        hidden_s=_hidden(slowest, chunks),
        balanced_s=sum(_whole(one, chunks) for one in equal) - _hidden(equal, chunks),
        sent=_sent(flow.counts, transfers, chunks),
        messages=sum(one.sends for one in flow.counts) + chunks * sum(one.sends for one in transfers),
        memory=footprint(distribution, flow),
    )


def _spent(
    setting: Setting, distribution: RoutingDistribution, flow: Flow, times: CollectiveTimes
) -> Iterator[ForecastTime]:
    """Yield the parts of the time, in the same order for every model of times."""
    problem, machine = setting.problem, setting.machine
    for transfer in flow.counts:
        yield ForecastTime(name="counts", kind="alone", seconds=times.transfer(transfer).seconds)
    for transfer in flow.transfers(problem):
        duration = times.transfer(transfer)
        if duration.limit:
            yield ForecastTime(name="latency", kind="communication", seconds=duration.latency_s)
            yield ForecastTime(name=duration.limit, kind="communication", seconds=duration.volume_s)
    multiplied_s = times.work(flow.computed.scaled(problem.flops(1)), machine.product_rate(problem.dtype))
    expert_bytes = problem.weight_bytes / problem.E * WEIGHT_PASSES[problem.mode]
    read_s = times.work(distribution.touched.scaled(expert_bytes), machine.memory.rate)
    starts = distribution.chunks * ROW_PASSES[problem.mode]
    bound = "products" if multiplied_s >= read_s else "weights"
    yield ForecastTime(name=bound, kind="compute", seconds=max(multiplied_s, read_s))
    yield ForecastTime(
        name="rows in memory", kind="compute", seconds=times.work(_moved(problem, flow), machine.memory.rate)
    )
    yield ForecastTime(name="overhead", kind="alone", seconds=starts * machine.layer_s.value)


def _moved(problem: Problem, flow: Flow) -> RowDistribution:
    """Return the bytes through the memory of every rank: copied rows, and hidden rows written and read twice."""
    both_ways = 2 * ROW_PASSES[problem.mode] * ELEMENT_BYTES[problem.dtype]
    hidden = both_ways * (problem.U + problem.F)
    return flow.copied.scaled(both_ways * problem.D) + flow.computed.scaled(hidden)


def _whole(spent: ForecastTime, chunks: int) -> float:
    """Return the seconds of a part in the whole call."""
    return spent.seconds * (1 if spent.kind == "alone" else chunks)


def _hidden(spent: Sequence[ForecastTime], chunks: int) -> float:
    """Return the seconds of the whole call that overlap with others."""
    communication, compute = (
        sum(_whole(one, chunks) for one in spent if one.kind == kind) for kind in ("communication", "compute")
    )
    return min(communication, compute) * (1 - 1 / chunks)


def _parts(slowest: Sequence[ForecastTime], equal: Sequence[ForecastTime], chunks: int) -> Iterator[ForecastPart]:
    """Yield the sums of the parts that have the same name."""
    for name in dict.fromkeys(one.name for one in slowest):
        pairs = [(one, other) for one, other in zip(slowest, equal, strict=True) if one.name == name]
        yield ForecastPart(
            name=name,
            seconds=sum(_whole(one, chunks) for one, _ in pairs),
            balanced_s=sum(_whole(other, chunks) for _, other in pairs),
        )


def _sent(counts: Sequence[Transfer], transfers: Sequence[Transfer], chunks: int) -> Mapping[LinkClass, float]:
    sent: dict[LinkClass, float] = {"self": 0.0, "node": 0.0, "across": 0.0}
    for times, group in ((1, counts), (chunks, transfers)):
        for transfer in group:
            for link, amount in transfer.out.items():
                sent[link] += times * amount.mean
    return sent
