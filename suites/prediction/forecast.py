"""The time, the bytes and the memory of a layer call on a cluster, and what they are made of.

What a rank sends costs a latency, a time for each message, and bytes over the tightest of the limits of a rank or a
node (alpha-beta with injection limits, as LogGP has it); every collective takes as long as its largest share, reckoned
from the load; compute is a roofline. Weights of experts that several groups hold are not synchronised: that is no part
of a layer call.
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
"""What may pass behind compute, behind communication, or behind nothing."""

# A training step reads the weights twice and writes their gradients, and moves every row there and back again.
WEIGHT_PASSES = {"forward": 1, "train": 3}
ROW_PASSES = {"forward": 1, "train": 2}


@dataclass(frozen=True, kw_only=True)
class ForecastTime:
    """Seconds that something takes in one chunk, or for ``alone`` in the whole call."""

    name: str
    kind: Kind
    seconds: float


@dataclass(frozen=True, kw_only=True)
class ForecastPart:
    """What a call spends its time on: seconds if nothing hides it, and the same if all ranks had equal shares."""

    name: str
    seconds: float
    balanced_s: float


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """One call of a dispatcher, and what it is made of.

    ``hidden_s`` of the ``parts`` pass behind others; ``balanced_s`` is the time of the call if all ranks had equal
    shares. ``sent`` are bytes that a rank sends on average, by link class; ``messages`` those of a rank.
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
        """Until the slowest rank is done."""
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
    """Where and how a problem runs: it is that of one expert-parallel group of ``layout``, in ``chunks``."""

    machine: MachineDescription
    layout: Layout
    problem: Problem
    choices: Choices
    chunks: int = 1


def forecast(dispatcher: str, setting: Setting) -> Forecast:
    """What one call should take.

    n chunks pass one after the other, the communication of one behind the compute of another:
    max(communication, compute) + min(communication, compute) / n, each chunk with latencies, weights and an overhead of
    its own (as Tutel and Comet pipeline). Counts go before all of it.

    Raises:
        InvalidMachine: when the machine lacks products of the problem's dtype, or links that the layout needs.
    """
    layout, chunks = setting.layout, setting.chunks
    demand = RoutingDistribution(setting.problem, layout, setting.choices, chunks)
    flow = FLOWS[dispatcher](demand)
    clock = CollectiveTimes(link=setting.machine.link, layout=layout)
    slowest = list(_spent(setting, demand, flow, clock))
    equal = list(_spent(setting, demand, flow, dataclasses.replace(clock, balanced=True)))
    transfers = flow.transfers(setting.problem)
    return Forecast(
        dispatcher=dispatcher,
        layout=layout,
        parts=tuple(_parts(slowest, equal, chunks)),
        hidden_s=_hidden(slowest, chunks),
        balanced_s=sum(_whole(one, chunks) for one in equal) - _hidden(equal, chunks),
        sent=_sent(flow.counts, transfers, chunks),
        messages=sum(one.sends for one in flow.counts) + chunks * sum(one.sends for one in transfers),
        memory=footprint(demand, flow),
    )


def _spent(setting: Setting, demand: RoutingDistribution, flow: Flow, clock: CollectiveTimes) -> Iterator[ForecastTime]:
    """What the time goes into, in the same order for every clock."""
    problem, machine = setting.problem, setting.machine
    for transfer in flow.counts:
        yield ForecastTime(name="counts", kind="alone", seconds=clock.transfer(transfer).seconds)
    for transfer in flow.transfers(problem):
        duration = clock.transfer(transfer)
        if duration.limit:
            yield ForecastTime(name="latency", kind="communication", seconds=duration.latency_s)
            yield ForecastTime(name=duration.limit, kind="communication", seconds=duration.volume_s)
    multiplied_s = clock.work(flow.computed.scaled(problem.flops(1)), machine.product_rate(problem.dtype))
    expert_bytes = problem.weight_bytes / problem.E * WEIGHT_PASSES[problem.mode]
    read_s = clock.work(demand.touched.scaled(expert_bytes), machine.memory.rate)
    starts = demand.chunks * ROW_PASSES[problem.mode]
    bound = "products" if multiplied_s >= read_s else "weights"
    yield ForecastTime(name=bound, kind="compute", seconds=max(multiplied_s, read_s))
    yield ForecastTime(
        name="rows in memory", kind="compute", seconds=clock.work(_moved(problem, flow), machine.memory.rate)
    )
    yield ForecastTime(name="overhead", kind="alone", seconds=starts * machine.layer_s.value)


def _moved(problem: Problem, flow: Flow) -> RowDistribution:
    """Bytes through the memory of every rank: rows that are copied, hidden rows written and read, activated and not."""
    both_ways = 2 * ROW_PASSES[problem.mode] * ELEMENT_BYTES[problem.dtype]
    hidden = both_ways * (problem.U + problem.F)
    return flow.copied.scaled(both_ways * problem.D) + flow.computed.scaled(hidden)


def _whole(spent: ForecastTime, chunks: int) -> float:
    """Seconds in the whole call."""
    return spent.seconds * (1 if spent.kind == "alone" else chunks)


def _hidden(spent: Sequence[ForecastTime], chunks: int) -> float:
    """Seconds of the whole call that pass behind others."""
    communication, compute = (
        sum(_whole(one, chunks) for one in spent if one.kind == kind) for kind in ("communication", "compute")
    )
    return min(communication, compute) * (1 - 1 / chunks)


def _parts(slowest: Sequence[ForecastTime], equal: Sequence[ForecastTime], chunks: int) -> Iterator[ForecastPart]:
    """What has the same name added up."""
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
