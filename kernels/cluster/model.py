"""The time, the bytes and the memory of a layer call on a cluster, and what they are made of.

The model: what a rank sends costs a latency, a time for each message, and bytes over the tightest of the limits that it
shares with nobody, with its node, or with the receivers (alpha-beta with injection limits, as LogGP has it); the call
takes as long as its largest share, reckoned from the load; compute is a roofline. Weights of experts that several
groups hold are not synchronised: that is no part of a layer call.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass

from ..problem import ELEMENT_BYTES, ROUTE_BYTES, Problem
from .clock import Clock
from .demand import Demand
from .flows import FLOWS, Flow
from .layout import Layout
from .machine import LinkClass, Machine
from .popularity import Choices
from .transfer import Transfer
from .wire import Wire

LATENCY, PRODUCTS, WEIGHTS, COPIES, OVERHEAD = "latency", "products", "weights", "copies", "overhead"
COMPUTE = (PRODUCTS, WEIGHTS, COPIES)

# A training step multiplies by the weights twice and writes their gradients, moves every row in both directions, and
# starts a forward and a backward.
WEIGHT_PASSES = {"forward": 1, "train": 3}
COPY_PASSES = {"forward": 1, "train": 2}


@dataclass(frozen=True, kw_only=True)
class Part:
    """What a call spends its time on: seconds if nothing hides it, and the same if all ranks had equal shares."""

    name: str
    seconds: float
    balanced_s: float


@dataclass(frozen=True, kw_only=True)
class Memory:
    """Bytes of the fullest rank: weights (in training with gradients), tokens and results, rows in flight."""

    weights: int
    tokens: int
    buffers: int

    @property
    def total(self) -> int:
        return self.weights + self.tokens + self.buffers


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """One call of a dispatcher in ``chunks``, and what it is made of.

    ``parts`` come in the order of `forecast`; ``hidden_s`` of them pass behind others. ``sent`` are bytes that a rank
    sends on average, by link class; ``messages`` those of a rank.
    """

    dispatcher: str
    layout: Layout
    parts: tuple[Part, ...]
    hidden_s: float
    balanced_s: float
    sent: Mapping[LinkClass, float]
    messages: int
    memory: Memory

    @property
    def seconds(self) -> float:
        """Until the slowest rank is done."""
        return sum(part.seconds for part in self.parts) - self.hidden_s

    @property
    def straggling(self) -> float:
        """The share of the time that equal shares of all ranks would save."""
        return 1 - self.balanced_s / self.seconds

    @property
    def bound(self) -> str:
        """The part that takes longest."""
        return max(self.parts, key=lambda part: part.seconds).name


@dataclass(frozen=True, kw_only=True)
class Setting:
    """Where and how a problem runs: ``problem`` is that of one expert-parallel group of ``layout``."""

    machine: Machine
    layout: Layout
    problem: Problem
    choices: Choices
    wire: Wire
    chunks: int = 1


def forecast(dispatcher: str, setting: Setting) -> Forecast:
    """What one call should take.

    n chunks pass one after the other, the communication of one behind the compute of another:
    max(communication, compute) + min(communication, compute) / n, each chunk with latencies, weights and an overhead of
    its own (the pipeline of Tutel and Comet).

    Raises:
        InvalidMachine: when the machine has no products of the problem's dtype.
    """
    problem, layout, chunks = setting.problem, setting.layout, setting.chunks
    chunk = Demand(problem.replace(T=math.ceil(problem.T / chunks)), layout, setting.choices)
    flow = FLOWS[dispatcher](chunk)
    transfers = flow.transfers(setting.wire, problem.mode)
    clock = Clock(machine=setting.machine, layout=layout)
    slowest = _spent(setting, chunk, flow, transfers, clock)
    equal = _spent(setting, chunk, flow, transfers, dataclasses.replace(clock, balanced=True))
    return Forecast(
        dispatcher=dispatcher,
        layout=layout,
        parts=tuple(
            Part(name=name, seconds=chunks * seconds, balanced_s=chunks * equal.get(name, 0.0))
            for name, seconds in slowest.items()
        ),
        hidden_s=_hidden(slowest, chunks),
        balanced_s=chunks * sum(equal.values()) - _hidden(equal, chunks),
        sent=_sent(transfers, chunks),
        messages=chunks * sum(sum(one.messages.values()) for one in transfers),
        memory=_memory(setting, flow),
    )


def _spent(
    setting: Setting, chunk: Demand, flow: Flow, transfers: tuple[Transfer, ...], clock: Clock
) -> dict[str, float]:
    """Seconds of one chunk by part."""
    problem, machine = setting.problem, setting.machine
    spent = {LATENCY: 0.0}
    for transfer in transfers:
        duration = clock.transfer(transfer)
        spent[LATENCY] += duration.latency_s
        if duration.limit:
            spent[duration.limit] = spent.get(duration.limit, 0.0) + duration.volume_s
    multiplied_s = clock.work(flow.computed.scaled(problem.flops(1)), machine.product_rate(problem.dtype))
    expert_bytes = problem.weight_bytes / problem.E * WEIGHT_PASSES[problem.mode]
    read_s = clock.work(chunk.touched.scaled(expert_bytes), machine.memory.rate)
    spent[PRODUCTS if multiplied_s >= read_s else WEIGHTS] = max(multiplied_s, read_s)
    row_bytes = 2 * problem.D * ELEMENT_BYTES[problem.dtype] * COPY_PASSES[problem.mode]
    spent[COPIES] = clock.work(flow.copied.scaled(row_bytes), machine.memory.rate)
    spent[OVERHEAD] = COPY_PASSES[problem.mode] * machine.layer_s.value
    return spent


def _hidden(spent: Mapping[str, float], chunks: int) -> float:
    """Seconds of all chunks that pass behind others."""
    compute = chunks * sum(spent.get(name, 0.0) for name in COMPUTE)
    communication = chunks * (sum(spent.values()) - spent[OVERHEAD]) - compute
    return min(communication, compute) * (1 - 1 / chunks)


def _sent(transfers: tuple[Transfer, ...], chunks: int) -> dict[LinkClass, float]:
    sent: dict[LinkClass, float] = {"self": 0.0, "node": 0.0, "across": 0.0}
    for transfer in transfers:
        for link, amount in transfer.out.items():
            sent[link] += chunks * amount.mean
    return sent


def _memory(setting: Setting, flow: Flow) -> Memory:
    """As `implementations/expert_parallel.py` counts its workspace.

    Rows stand as they came, in expert order and multiplied; in training also as gradients, with the pre-activations.
    Beside them there are the rows that are sent, or the hidden rows of the fullest expert.
    """
    problem, layout, element = setting.problem, setting.layout, ELEMENT_BYTES[setting.problem.dtype]
    copies = COPY_PASSES[problem.mode]
    demand = Demand(problem, layout, setting.choices)
    received, sent, computed = (amount.largest(layout.groups) for amount in (flow.received, flow.sent, flow.computed))
    fullest = problem.T * float((demand.choices.included_E * demand.kept_E).max())
    if problem.mode == "forward":
        elements = (received + 2 * computed) * problem.D + max(sent * problem.D, fullest * (problem.U + 2 * problem.F))
    else:
        kept = computed * problem.U
        elements = (received + 2 * computed + sent) * problem.D + kept + fullest * (problem.U + 4 * problem.F)
    tokens = problem.tokens_per_rank
    return Memory(
        weights=copies * demand.slots * problem.weight_bytes // problem.E,
        tokens=2 * copies * tokens * problem.D * element + tokens * problem.K * ROUTE_BYTES,
        buffers=int(elements * element),
    )
