"""Probe of the ranks of a job: their links, and their rates of compute while all of them are busy."""

from __future__ import annotations

import os
import signal
import statistics
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal

import torch
import torch.distributed as dist
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from ....common.errors import UserError
from ....execution.workers.rank_setup import open_device
from ....results.timing.cpu_clock import CpuClock
from ....results.timing.gpu_check import UnfitGpu, check_idle
from ....results.timing.memory import available_bytes
from ....results.timing.roofline import multiplies_float8, product
from ....results.timing.stopping_rule import MIN_SAMPLES
from .links import Exchange, exchanges
from .rank_group import RankGroup, RankRates, Workload

PEAK = {"cpu": (512, 512, 512), "cuda": (8192, 8192, 8192)}  # rows, inner width, columns of a fast product
EXPERT = {"cpu": (64, 512, 1024), "cuda": (1024, 4096, 4096)}  # the same of one expert, whose weights come from memory
EXPERTS = 8
COPY_BYTES = {"cpu": 32 << 20, "cuda": 1 << 30}  # of every rank: all together are larger than a cache
OPERATIONS = 100  # small operations of a layer, besides its products
TIMEOUT = timedelta(minutes=2)  # of one collective: long enough for a slow rank, short enough to notice a dead one
# The launcher installs signal handlers and leaves them: Ctrl-C would raise another exception from then on.
HANDLED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)
DTYPES = (torch.float32, torch.float16, torch.bfloat16, torch.float8_e4m3fn)


class ProbeError(UserError, RuntimeError):
    """The ranks cannot be measured; the message gives the reason."""


@dataclass(frozen=True, kw_only=True)
class Probe:
    """Measurements of ranks. ``products`` are FLOP/s by dtype, ``grouped`` the share that grouped products reach.

    ``layer_s`` are the seconds of a layer's small operations; ``copies`` bytes/s, read and write both counted.
    ``beside_others`` says how much was measured while others used the cores, empty if too little to matter.
    """

    ranks: int
    ranks_per_node: int
    exchanges: list[Exchange]
    products: dict[str, RankRates]
    grouped: dict[str, float]
    copies: RankRates
    memory_bytes: int
    layer_s: float
    beside_others: str = ""


def launch(ranks: int, device_type: Literal["cpu", "cuda"]) -> Probe:
    """Measure with processes of this machine, on loopback unless GLOO_SOCKET_IFNAME names another interface.

    Raises:
        ProbeError: when one of them fails, or torch sees too few devices.
    """
    _check_devices(device_type, ranks)
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=ranks,
        run_id=uuid.uuid4().hex,
        rdzv_endpoint="127.0.0.1:0",
        rdzv_backend="c10d",
        local_addr="127.0.0.1",
        max_restarts=0,
    )
    before = {one: signal.getsignal(one) for one in HANDLED}
    try:
        answers: dict[int, Probe] = elastic_launch(config, take_part)(device_type)
    except ChildFailedError as error:
        rank, failure = error.get_first_failure()
        raise ProbeError(f"rank {rank} of {ranks} failed: {failure.message}") from error
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)
    return answers[0]


def take_part(device_type: Literal["cpu", "cuda"]) -> Probe:
    """Measure as one of the ranks that torchrun started, with LOCAL_WORLD_SIZE ranks per node.

    Raises:
        ProbeError: when torch sees too few devices, or this rank's cannot be measured on.
    """
    place, neighbours = int(os.environ["LOCAL_RANK"]), int(os.environ["LOCAL_WORLD_SIZE"])
    _check_devices(device_type, neighbours)
    try:
        if device_type == "cuda":
            check_idle(place)
        device = open_device(device_type, place, neighbours)
    except UnfitGpu as error:
        raise ProbeError(str(error)) from error
    dist.init_process_group("nccl" if device_type == "cuda" else "gloo", timeout=TIMEOUT)
    try:
        return _probe(RankGroup(neighbours, device))
    finally:
        dist.destroy_process_group()


def _check_devices(device_type: Literal["cpu", "cuda"], ranks: int) -> None:
    if device_type == "cuda" and (found := torch.cuda.device_count()) < ranks:
        raise ProbeError(f"torch sees {found} CUDA devices, {ranks} wanted: give fewer ranks, or --device cpu")


def _probe(team: RankGroup) -> Probe:
    device, products, grouped = team.device, {}, {}
    for dtype in DTYPES if multiplies_float8(device) else DTYPES[:-1]:
        word = str(dtype).removeprefix("torch.")
        products[word] = team.rates(_products(PEAK[device.type], 1, dtype, device))
        experts = team.rates(_products(EXPERT[device.type], EXPERTS, dtype, device))
        grouped[word] = min(1.0, experts.together / products[word].together)
    return Probe(
        ranks=team.ranks,
        ranks_per_node=team.ranks_per_node,
        exchanges=exchanges(team),
        products=products,
        grouped=grouped,
        copies=team.rates(_copy(device)),
        memory_bytes=int(team.agreed(_memory_bytes(team), dist.ReduceOp.MIN)),
        layer_s=_layer_s(team),
        beside_others=team.beside_others,
    )


def _products(shape: tuple[int, int, int], count: int, dtype: torch.dtype, device: torch.device) -> Workload:
    """Return the workload of x @ w.T for ``count`` weights."""
    rows, inner, columns = shape
    x = torch.randn(rows, inner, device=device).to(dtype)
    calls = [product(x, torch.randn(columns, inner, device=device).to(dtype)) for _ in range(count)]
    return Workload(2.0 * rows * inner * columns * count, lambda: [call() for call in calls])


def _copy(device: torch.device) -> Workload:
    size = COPY_BYTES[device.type]
    source = torch.ones(size, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return Workload(2.0 * size, lambda: target.copy_(source))


def _layer_s(team: RankGroup) -> float:
    """Return the fixed overhead of a layer in seconds, measured while all ranks do the same.

    On a CPU it is measured as calls are timed, with cold caches, which hold no code of the small operations either; and
    it includes the time that a first exchange takes beyond a later one.
    """
    job = _small_operations(team.device)
    if team.device.type == "cuda":
        return OPERATIONS / team.rates(job).together
    one = torch.zeros(team.ranks, dtype=torch.uint8)

    def exchange() -> None:
        dist.all_to_all_single(torch.empty_like(one), one)

    mine_s = OPERATIONS / job.amount * _cold_s(job.do) + max(0.0, _cold_s(exchange) - _warm_s(exchange))
    return team.agreed(mine_s, dist.ReduceOp.SUM) / team.ranks


def _cold_s(call: Callable[[], object]) -> float:
    """Return the seconds of a call that all ranks begin together with cold caches."""
    sample = CpuClock(dist.barrier).prepare([call])
    return statistics.median(sample().ns for _ in range(MIN_SAMPLES)) / 1e9


def _warm_s(call: Callable[[], object]) -> float:
    """Return the seconds of a call among equal ones."""
    started = time.perf_counter()
    for _ in range(MIN_SAMPLES):
        call()
    return (time.perf_counter() - started) / MIN_SAMPLES


def _small_operations(device: torch.device) -> Workload:
    """Return a workload of five operations that layers use, on tiny tensors."""
    keys, rows = torch.arange(8, device=device), torch.ones(8, 8, device=device)

    def five() -> None:
        order = torch.argsort(keys, stable=True)
        torch.zeros(8, 8, device=device).copy_(torch.mm(rows.index_select(0, order), rows))

    return Workload(5, five)


def _memory_bytes(team: RankGroup) -> float:
    """Return the memory of this rank: that of its device, or its share of the machine."""
    return available_bytes(team.device) / (1 if team.device.type == "cuda" else team.ranks_per_node)
