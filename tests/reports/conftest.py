"""Synthetic records: what a sweep on one small GPU might have written, made without running anything."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from moebench.results.record import (
    SCHEMA,
    Clocks,
    Environment,
    Memory,
    Point,
    Record,
    Roofline,
    Status,
    Timing,
    Traffic,
    Work,
)

GPU = Environment(
    device="NVIDIA H100 80GB HBM3",
    device_type="cuda",
    cores=16,
    threads=8,
    memory_bytes=80 * 2**30,
    os="Linux 6.8",
    python="3.12.3",
    torch="2.11.0",
    triton="3.6.0",
    cuda="13.0",
    driver="580.65.06",
    moebench="0.1.0",
)
CPU = GPU.model_copy(
    update={"device": "AMD EPYC 9R14", "device_type": "cpu", "triton": None, "cuda": None, "driver": None}
)
ROOFLINE = Roofline(flops_per_s=700e12, bytes_per_s=2.6e12)
DEFAULTS: dict[str, Any] = {
    "T": 1024,
    "D": 2048,
    "F": 1024,
    "E": 64,
    "K": 8,
    "dtype": "bfloat16",
    "mode": "forward",
    "seed": 0,
}


def record(
    kernel: str = "loop",
    *,
    suite: str = "tokens",
    question: str = "How does the time grow with tokens?",
    axis: str = "tokens",
    series: str = "small",
    x: float | str = 1024.0,
    baseline: str = "loop",
    ms: float | Sequence[float] = 1.0,
    noise: float = 0.002,
    samples: int = 30,
    status: Status = Status.passed,
    reason: str = "",
    padding: float = 1.0,
    kept: float = 1.0,
    peak: int = 300 * 2**20,
    problem: dict[str, Any] | None = None,
    roofline: Roofline | None = ROOFLINE,
    sent_bytes: Sequence[int] = (),
    config: dict[str, Any] | None = None,
    environment: Environment = GPU,
    clocks: Clocks | None = None,
    cache: Any = "cold",
    time: str = "2026-03-01T10:00:00Z",
) -> Record:
    """One record; ``ms`` is its median or its very samples, ``kept`` the share of routed rows that were not dropped."""
    fields = DEFAULTS | (problem or {})
    routed = fields["T"] * fields["K"]
    rows = int(routed * kept)
    useful = 6 * rows * fields["D"] * fields["F"] * (3 if fields["mode"] == "train" else 1)
    touched = min(fields["E"], routed)
    work = Work(
        useful_flops=useful,
        executed_flops=int(useful * padding),
        ideal_bytes=2 * (2 * fields["T"] * fields["D"] + 3 * touched * fields["D"] * fields["F"]),
        routed_rows=routed,
        kept_rows=rows,
    )
    timing = None
    if status is Status.passed:
        if isinstance(ms, float):
            drawn = np.random.default_rng(len(kernel)).normal(1, noise, samples)
            ms = list(ms * drawn)
        timing = Timing(
            clock="cuda_event", cache=cache, samples_ns=[1e6 * one for one in ms], throttled=0, stopped="settled"
        )
    return Record(
        schema_version=SCHEMA,
        point=Point(suite=suite, question=question, axis=axis, series=series, x=x, baseline=baseline, cache=cache),
        key=".".join(f"{name}{value}" for name, value in fields.items()),
        problem=fields,
        kernel=kernel,
        family="synthetic",
        config=config or {},
        status=status,
        reason=reason or ("" if status is Status.passed else f"the trial ended as {status.value}"),
        timing=timing,
        memory=Memory(peak=peak, saved=peak // 2) if timing else None,
        work=work,
        roofline=roofline,
        traffic=_traffic(list(sent_bytes)) if sent_bytes else None,
        clocks=clocks,
        environment=environment,
        commit="0123abc",
        time=time,
        wall_s=2.0,
    )


def _traffic(sent_bytes: list[int]) -> Traffic:
    """Return the traffic of ranks on one node, with a copy for every route."""
    none, ones = [0] * len(sent_bytes), [1] * len(sent_bytes)
    return Traffic(
        ranks_per_node=len(sent_bytes),
        self_bytes=none,
        node_bytes=sent_bytes,
        across_bytes=none,
        messages=ones,
        rows=ones,
        routes=ones,
    )


def tokens(mode: str = "forward") -> list[Record]:
    """Five kernels over sixteen powers of two; the padded one runs out of memory at the end."""
    question = "Which kernel is fastest at which number of tokens?"
    speeds = {"loop": (2.4, 1.3), "sorted_loop": (1.3, 0.9), "padded": (0.31, 1.4), "scatter": (0.29, 0.8)}
    speeds["triton_grouped"] = (0.34, 0.7)
    found = []
    for power in range(16):
        T = 2**power
        for kernel, (start, slope) in speeds.items():
            problem = {"T": T, "mode": mode}
            useful = record(problem=problem).work
            assert useful is not None
            ms = start * (3 if mode == "train" else 1) + slope * ROOFLINE.bound_ns(useful) / 1e6 / 0.62
            lost = kernel == "padded" and T > 8192
            found.append(
                record(
                    kernel,
                    suite="tokens",
                    question=question,
                    axis="tokens",
                    series="qwen3-30b-a3b",
                    x=float(T),
                    ms=ms,
                    padding=1.35 if kernel == "padded" else 1.0,
                    peak=int(2**20 * (4 + T * 0.02)),
                    problem=problem,
                    status=Status.out_of_memory if lost else Status.passed,
                    reason="tried to allocate 96.0 GiB, 79.1 GiB in all" if lost else "",
                )
            )
    return found


def capacity() -> list[Record]:
    """Make a suite with a capacity factor on the axis and "dropless" at its end; dropless kernels refuse a capacity."""
    found = []
    for factor in (1.0, 1.25, 1.5, 2.0, 3.0, 4.0, "dropless"):
        for kernel, ms in (("loop", 2.2), ("padded", 0.7), ("scatter", 0.82)):
            dropless = factor == "dropless"
            refused = kernel == "scatter" and not dropless
            kept = 1.0 if dropless else min(1.0, 0.8 + 0.06 * float(factor))
            grown = 2.6 if dropless else float(factor) ** 0.6
            found.append(
                record(
                    kernel,
                    suite="capacity",
                    question="What does a capacity factor cost in time, and what does it drop?",
                    axis="capacity factor",
                    series="mixtral-8x7b",
                    x=factor,
                    ms=ms * (grown if kernel == "padded" else 1.0),
                    kept=kept,
                    padding=(2.6 if dropless else float(factor) / kept) if kernel == "padded" else 1.0,
                    problem={"capacity_factor": None if dropless else factor},
                    status=Status.unsupported if refused else Status.passed,
                    reason=f"is dropless, the problem drops above capacity_factor = {factor}" if refused else "",
                )
            )
    return found


def models() -> list[Record]:
    """Names on the axis, one series, in training, with memory kept for the backward."""
    shapes = {"mixtral-8x7b": 5.1, "qwen3-30b-a3b": 1.9, "deepseek-v3": 7.7, "olmoe-1b-7b": 1.1, "gpt-oss-120b": 6.0}
    kernels = {"loop": 2.9, "padded": 1.8, "scatter": 1.02, "triton_grouped": 1.0}
    return [
        record(
            kernel,
            suite="models",
            question="Which kernel trains published models fastest?",
            axis="model",
            series="published",
            x=model,
            ms=scale * ms,
            noise=0.02,
            problem={"D": 1024 + 512 * number, "mode": "train"},
        )
        for number, (model, scale) in enumerate(shapes.items())
        for kernel, ms in kernels.items()
    ]


def peers() -> list[Record]:
    """Competitors beside the dense reference, whose problem is another one of the same useful FLOPs, in two dtypes."""
    found = []
    for dtype in ("bfloat16", "float32"):
        for T in (1024, 4096, 16384):
            bound = T * 8 * 6 * 2048 * 1024 / 700e12 * 1e3 * (1 if dtype == "bfloat16" else 8)
            roofline = ROOFLINE if dtype == "bfloat16" else Roofline(flops_per_s=700e12 / 8, bytes_per_s=2.6e12)
            shared: dict[str, Any] = {
                "suite": "peers",
                "question": "How close do kernels and peers come to a dense matmul of the same FLOPs?",
                "axis": "tokens",
                "series": "qwen3-30b-a3b",
                "x": float(T),
                "roofline": roofline,
            }
            moe = {"T": T, "dtype": dtype}
            found += [
                record(kernel, ms=bound * times + 0.25, problem=moe, **shared)
                for kernel, times in (("loop", 3.1), ("scatter", 1.3), ("transformers_grouped", 1.9))
            ]
            found.append(
                record("dense", ms=bound * 1.08, problem={"T": 8 * T, "E": 1, "K": 1, "dtype": dtype}, **shared)
            )
    return found


def endings() -> list[Record]:
    """Every way a trial can end, on several ranks."""
    return [
        record(
            f"kernel_{status.value}",
            suite="parallel",
            question="How does expert parallelism scale?",
            axis="ranks",
            series="all-to-all",
            x=float(ranks),
            ms=4.0 / ranks,
            status=status,
            baseline="kernel_passed",
            sent_bytes=[50_000_000] * ranks,
            problem={"ranks": ranks},
        )
        for ranks in (2, 4)
        for status in Status
    ]


@pytest.fixture(scope="session")
def make() -> Callable[..., Record]:
    """Return the builder of one record."""
    return record


@pytest.fixture(scope="session")
def suites() -> dict[str, list[Record]]:
    """Return the records of every suite above, by its name."""
    return {
        "tokens": [*tokens(), *tokens("train")],
        "capacity": capacity(),
        "models": models(),
        "peers": peers(),
        "parallel": endings(),
    }


@pytest.fixture(scope="session")
def sweep(suites: dict[str, list[Record]]) -> list[Record]:
    """Everything: a long report."""
    return [record for records in suites.values() for record in records]


@pytest.fixture
def cpu() -> Environment:
    """Another machine than the one that made the records above."""
    return CPU
