"""Rates of this machine's CPU, kept on disk: measured by `moebench doctor` or the first `moebench run`, read by layers.

A layer never measures. Without kept rates it uses `estimated`, which serve to rank kernels and for nothing else.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Mapping
from functools import cache, lru_cache
from pathlib import Path
from typing import Final, NamedTuple

import torch

from ...common.files import write_whole
from ...common.packages import installed_version
from ..cost_model.cpu import SPEEDS
from ..hardware.device_names import device_name
from ..problem import Problem
from ..steps import CALL_S, Rates

FOLDER: Final = "MOEBENCH_RATES"
FORMAT: Final = 1
DIGITS: Final = 16  # of the fingerprint in a file's name
MAX_BYTES: Final = 1 << 16
FILES: Final = 64  # files whose content is kept in memory
# Rates of a core of a server of 2022 and later with instructions for bfloat16: half of Zen 4 and Zen 5, as measured,
# is the lower end of them. Memory is shared, so its rate stops growing. By them the choice was within 15 % of the best
# at as many points as by measured rates (docs/performance.md).
CORE_FLOPS_PER_S: Final = {"float32": 100e9, "bfloat16": 300e9, "float16": 25e9}
# A core without these instructions (Zen 3) reached 8 to 9 GFLOP/s in bfloat16 beside 52 in float32.
EMULATED_BFLOAT16: Final = 16e9
CORE_BYTES_PER_S: Final = 20e9
MOST_BYTES_PER_S: Final = 200e9


class RatesHere(NamedTuple):
    """The rates for a problem's dtype, and where they come from, in a few words."""

    rates: Rates
    source: str


def fingerprint() -> dict[str, str | int | None]:
    """Return what the rates are valid for: the processor, the threads of torch, and its version."""
    return {
        "device": device_name(torch.device("cpu")),
        "threads": torch.get_num_threads(),
        "torch": installed_version("torch"),
    }


def rates_here(problem: Problem) -> RatesHere:
    """Return the rates kept for this machine, or estimates with the remedy."""
    kept = kept_rates()
    if kept is None:
        threads = torch.get_num_threads()
        rates = estimated(problem, threads, multiplies_bfloat16=_multiplies_bfloat16())
        return RatesHere(rates, f"estimated rates (`moebench doctor` measures {threads} threads)")
    return RatesHere(_for_dtype(kept, problem.held), "the rates measured here")


def estimated(problem: Problem, threads: int, *, multiplies_bfloat16: bool = True) -> Rates:
    """Return what so many cores of a common server should reach, with or without instructions for bfloat16."""
    core = CORE_FLOPS_PER_S if multiplies_bfloat16 else {**CORE_FLOPS_PER_S, "bfloat16": EMULATED_BFLOAT16}
    return Rates(
        flops_per_s=threads * max(core[dtype] for dtype in SPEEDS[problem.held]),
        products={dtype: threads * core[dtype] for dtype in SPEEDS[problem.held]},
        bytes_per_s=min(threads * CORE_BYTES_PER_S, MOST_BYTES_PER_S),
        call_s=CALL_S["cpu"],
    )


@cache
def _multiplies_bfloat16() -> bool:
    """Return whether the processor has instructions by which torch multiplies bfloat16."""
    try:
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())  # noqa: SLF001  # torch's own compiler asks the same
    except (AttributeError, RuntimeError):  # a torch without mkldnn
        return False


def kept_rates() -> Rates | None:
    """Return the rates kept for this machine, of all dtypes; None where there are none that can be read."""
    file = file_here()
    try:
        state = file.stat() if file is not None else None
    except OSError:
        return None
    return _read(str(file), (state.st_ino, state.st_mtime_ns, state.st_size)) if state else None


def keep(rates: Rates) -> Path | None:
    """Write measured rates to where layers look for them, and return that file; None where there is no folder.

    Of those kept already and the new ones the better counts, each for itself: a neighbour makes a rate lower, never
    higher.

    Raises:
        OSError: when it cannot be written.
    """
    file = file_here()
    if file is not None:
        rates = _better(rates, kept_rates() or rates)
        content = {
            "moebench_rates": FORMAT,
            "machine": fingerprint(),
            "bytes_per_s": rates.bytes_per_s,
            "fresh_bytes_per_s": rates.fresh_bytes_per_s,
            "products": dict(rates.products),
            "pointwise": dict(rates.pointwise),
        }
        write_whole(file, json.dumps(content, indent=2) + "\n")
    return file


def file_here() -> Path | None:
    """Return the file of this machine, whether or not it exists; None where the user has turned rates off.

    Its folder is MOEBENCH_RATES, else moebench/rates in the user's cache. An empty MOEBENCH_RATES turns them off.
    """
    named = os.environ.get(FOLDER)
    if named == "":
        return None
    name = f"{hashlib.sha256(repr(sorted(fingerprint().items())).encode()).hexdigest()[:DIGITS]}.json"
    if named:
        return Path(named) / name
    cache = os.environ.get("XDG_CACHE_HOME", "")
    try:
        return (Path(cache) if Path(cache).is_absolute() else Path.home() / ".cache") / "moebench" / "rates" / name
    except RuntimeError:
        return None


def _better(one: Rates, other: Rates) -> Rates:
    return Rates(
        flops_per_s=max(one.flops_per_s, other.flops_per_s),
        bytes_per_s=max(one.bytes_per_s, other.bytes_per_s),
        call_s=one.call_s,
        products={dtype: max(one.products[dtype], other.products[dtype]) for dtype in SPEEDS},
        pointwise={dtype: max(one.pointwise[dtype], other.pointwise[dtype]) for dtype in SPEEDS},
        fresh_bytes_per_s=max(one.fresh_bytes_per_s, other.fresh_bytes_per_s),
    )


@lru_cache(maxsize=FILES)
def _read(path: str, state: tuple[int, int, int]) -> Rates | None:
    """Read a file that may come from anywhere; ``state`` makes a changed file another one."""
    try:
        if state[-1] > MAX_BYTES:
            return None
        found = json.loads(Path(path).read_text(encoding="utf-8"))
        if found["moebench_rates"] != FORMAT or found["machine"] != fingerprint():
            return None
        products = {dtype: _rate(found["products"][dtype]) for dtype in SPEEDS}
        return Rates(
            flops_per_s=max(products.values()),
            bytes_per_s=_rate(found["bytes_per_s"]),
            call_s=CALL_S["cpu"],
            products=products,
            pointwise={dtype: _rate(found["pointwise"][dtype]) for dtype in SPEEDS},
            fresh_bytes_per_s=_rate(found["fresh_bytes_per_s"]),
        )
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


def _rate(value: object) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value < math.inf:
        raise ValueError(value)
    return float(value)


def _for_dtype(kept: Rates, dtype: str) -> Rates:
    products: Mapping[str, float] = kept.products
    return Rates(
        flops_per_s=max(products[one] for one in SPEEDS[dtype]),
        bytes_per_s=kept.bytes_per_s,
        call_s=kept.call_s,
        products=products,
        pointwise=kept.pointwise,
        fresh_bytes_per_s=kept.fresh_bytes_per_s,
    )
