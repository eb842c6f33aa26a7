"""Measured rates of this machine, from which lower bounds of times are computed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from ..record import Roofline
from .disturbance import Watch

# Rows, inner width, columns of x @ W.T. On a CPU small enough to stay in cache, where its rate is highest.
MATMULS = {
    "cpu": ((512, 512, 512), (512, 512, 2048), (1024, 1024, 1024)),
    "cuda": ((4096, 4096, 4096), (8192, 8192, 8192)),
}
# What a dtype may be multiplied in besides itself: what holds it exactly. Some CPUs have fast products of bfloat16 and
# slow ones of float16; a GPU is always faster in the narrower one, if it has it.
WIDER = {
    torch.float8_e4m3fn: (torch.bfloat16, torch.float32),
    torch.bfloat16: (torch.float32,),
    torch.float16: (torch.float32,),
}
MEMORY_BYTES = {"cpu": 128 << 20, "cuda": 2 << 30}  # several times the last-level cache
ROW_WORDS = 8192  # of 4 bytes, summed by one thread of a CPU or one block of a GPU
PROBE_S = 0.03  # a CPU reaches its rate at once and loses it to neighbours: short tries, of which the best one counts
MIN_TRIES = 3
DISTURBED_S = 5 * PROBE_S  # of disturbed tries, after which the machine is taken for one that stays busy
CALLS_A_TRY = {"cpu": 1, "cuda": 8}  # launching one call on a GPU and waiting for it would be 2 % of its time


@dataclass(frozen=True, kw_only=True)
class MemoryRates:
    """Bytes/s of memory: of a copy, read and write both counted, and of a stream that only reads."""

    copy: float
    read: float

    @property
    def best(self) -> float:
        """The rate that no call exceeds. On a GPU reading alone is faster, as its memory loses time when it turns."""
        return max(self.copy, self.read)


class MachineRates:
    """Measured rates of one device, kept for the life of the process; the best rate seen counts.

    ``disturbed`` says that something was measured only while others ran on the cores: the rate may be higher. Rates of
    such a roofline are measured again the next time that they are asked for.
    """

    def __init__(self, device: torch.device, watch: Watch | None = None) -> None:
        self._device = device
        self._watch = watch or Watch()
        self.disturbed = False
        self._rooflines: dict[torch.dtype, Roofline] = {}
        self._memory = MemoryRates(copy=0.0, read=0.0)

    @property
    def device(self) -> torch.device:
        """The device whose rates they are."""
        return self._device

    @property
    def memory(self) -> MemoryRates:
        """The rates of memory that the latest roofline was made with."""
        return self._memory

    @property
    def probe_bytes(self) -> int:
        """Bytes that measuring takes at its peak: both sides of the copy, which is larger than any of the products."""
        return 2 * MEMORY_BYTES[self._device.type]

    def roofline(self, dtype: torch.dtype) -> Roofline:
        """Return the FLOP/s of the fastest dense matmul of ``dtype``, and bytes/s of memory, copied or only read.

        Memory is measured once for all dtypes, unless others disturbed it. The matmul may be in a wider dtype, where
        that is faster: an implementation may do so too.
        """
        known = self._rooflines.get(dtype)
        if known is None:
            return self._measure(dtype, memory=all(one.disturbed for one in self._rooflines.values()))
        return self.doubt(dtype) if known.disturbed else known

    def doubt(self, dtype: torch.dtype) -> Roofline:
        """Measure again and keep the better of old and new: for when something seems faster than the machine."""
        return self._measure(dtype, memory=True)

    def _measure(self, dtype: torch.dtype, *, memory: bool) -> Roofline:
        old = self._rooflines.get(dtype)
        self.disturbed = False
        flops = max(self._matmul_rate(dtype), old.flops_per_s if old else 0.0)
        if memory:
            now, before = self._memory_rates(), self._memory
            self._memory = MemoryRates(copy=max(now.copy, before.copy), read=max(now.read, before.read))
        self._rooflines[dtype] = Roofline(
            flops_per_s=flops,
            bytes_per_s=self._memory.best,
            disturbed=self.disturbed and (old is None or old.disturbed),
        )
        return self._rooflines[dtype]

    def _matmul_rate(self, dtype: torch.dtype) -> float:
        itself = dtype != torch.float8_e4m3fn or multiplies_float8(self._device)
        wider = () if itself and self._device.type == "cuda" else WIDER.get(dtype, ())
        return max(self.product_rate(one) for one in (*([dtype] if itself else []), *wider))

    def product_rate(self, dtype: torch.dtype) -> float:
        """Measure the FLOP/s of the fastest dense matmul of a dtype."""
        best = 0.0
        for rows, inner, columns in MATMULS[self._device.type]:
            x = torch.randn(rows, inner, device=self._device).to(dtype)
            w = torch.randn(columns, inner, device=self._device).to(dtype)
            seconds = self.fastest(product(x, w))
            best = max(best, 2 * rows * inner * columns / seconds)
        return best

    def _memory_rates(self) -> MemoryRates:
        """Measure a copy and reading alone, of the same memory: fresh memory takes as long as measuring."""
        # float32 is summed as it is; integers are converted in a pass of their own.
        words = torch.ones(MEMORY_BYTES[self._device.type] // 4, dtype=torch.float32, device=self._device)
        rows, target = words.view(-1, ROW_WORDS), torch.empty_like(words)
        copy_s = self.fastest(lambda: target.copy_(words))
        # One sum of all keeps every processor busy to the end, sums of rows need no second step.
        read_s = min(self.fastest(words.sum), self.fastest(lambda: rows.sum(1)))
        return MemoryRates(copy=2 * words.nbytes / copy_s, read=words.nbytes / read_s)

    def fastest(self, call: Callable[[], object]) -> float:
        """Return the seconds of a call in the fastest of many tries, after one untimed call.

        Tries that others disturbed are no more than extra ones, as long as there are some that nobody did.
        """
        call()
        calls = CALLS_A_TRY[self._device.type]
        quiet: list[float] = []
        disturbed: list[float] = []
        while (len(quiet) < MIN_TRIES or sum(quiet) < PROBE_S) and sum(disturbed) < DISTURBED_S:
            self._synchronize()
            self._watch.start()
            for _ in range(calls):
                call()
            self._synchronize()
            span = self._watch.stop()
            (disturbed if span.disturbed else quiet).append(span.ns / 1e9)
        self.disturbed |= len(quiet) < MIN_TRIES
        return min(quiet + disturbed) / calls

    def _synchronize(self) -> None:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)


def multiplies_float8(device: torch.device) -> bool:
    """Return whether the device has products of float8_e4m3fn: NVIDIA's from compute capability 8.9 on."""
    return device.type == "cuda" and torch.version.hip is None and torch.cuda.get_device_capability(device) >= (8, 9)


def product(x: torch.Tensor, w: torch.Tensor) -> Callable[[], object]:
    """Return a function that computes x @ w.T in the fastest way that torch offers."""
    if x.dtype == torch.float8_e4m3fn:
        one = torch.ones((), device=x.device)
        scaled_mm = torch._scaled_mm  # noqa: SLF001  # public only from torch 2.10 on, under another name
        return lambda: scaled_mm(x, w.T, scale_a=one, scale_b=one, out_dtype=torch.bfloat16, use_fast_accum=True)
    out = x.new_empty(len(x), len(w))
    return lambda: torch.mm(x, w.T, out=out)
