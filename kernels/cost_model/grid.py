"""Cost model of one GPU launch: waves of programs, each bound by products, shared memory, L2, memory or latency.

A roofline model (Williams et al. 2009) with the waves and the tail of a grid, and by Little's law with the bytes that
must be in flight to hide latency. Its purpose is to rank configurations.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from ..hardware.gpus import DATA_SHEETS, PROCESSORS, DataSheet, Hardware
from ..hardware.occupancy import MOST_REGISTERS, REGISTERS, SCHEDULERS
from ..steps import Rates

SHARED_CYCLE_BYTES = 128  # that a processor reads or writes in shared memory (CUDA Best Practices Guide, 32 banks)
PORT_CYCLE_BYTES = 64  # that a processor takes from L2 (NVIDIA A100 white paper, L2 cache)
SHOWN = 0.15  # of what hides behind a longer bound is seen all the same: nothing overlaps wholly
GROUP_ROWS = 64  # of the products of four warps, and the least of those of a block (PTX ISA: wgmma, tcgen05.mma)
BLOCK_ROWS = 128  # that a block's products want for their full rate (PTX ISA: tcgen05.mma)
WARP_SIDES = 16, 8  # the least rows and columns of one warp's product (PTX ISA: mma.m16n8k16)
FIXED_REGISTERS = 40  # for what is neither accumulated, multiplied nor pointed to; seen in compiled code
SLICE = 64  # steps of an operand that warps' own products hold in registers at most; seen in compiled code
START_CYCLES = 700  # until a program that starts has its arguments, and its slot has been cleared of the one before
CHAIN = 3  # loads of metadata that wait for each other before the first tile can be asked for
STEP_CYCLES = 40  # of a step: waiting for a buffer, a barrier, and handing it back
COPY_BYTES = 16  # of the widest copy of one thread
COPY_INSTRUCTIONS = 4  # for its address, its mask and itself
STORE_INSTRUCTIONS = 10  # of an accumulator after the last step: exchanged, scaled or activated, rounded and stored
FMA_SHARE = 0.5  # of the FLOP/s without tensor cores: half of the instructions are loads from shared memory
TF32_PRODUCTS = 3  # for one of float32


@dataclass(frozen=True, kw_only=True)
class Program:
    """A program that makes ``rows`` by ``columns`` of a product in steps of ``step``, with ``stages`` buffers.

    Elements have ``element`` bytes.

    Of the rows and columns, ``by_pointer`` are copied by threads, the others by tensor descriptor. ``more_bytes`` of
    shared memory are not buffers of operands. ``fixed_registers`` of a thread hold neither accumulators
    nor operands.
    """

    hardware: Hardware
    rows: int
    columns: int
    step: int
    element: int
    warps: int
    stages: int
    by_pointer: int
    more_bytes: int
    specialise: bool
    tensor_cores: bool
    tf32: bool
    fixed_registers: int = FIXED_REGISTERS

    @property
    def chip(self) -> DataSheet:
        """The data sheet of the target."""
        return DATA_SHEETS[self.hardware.target]

    @cached_property
    def _started_by(self) -> str:
        """The unit that starts its products: warp, group of warps, or block."""
        wide = self.tensor_cores and self.rows >= GROUP_ROWS
        return self.chip.products if wide else "warp"

    @cached_property
    def _parts(self) -> tuple[int, int, int]:
        """Return how many units share the tile, and the rows and columns that each of them multiplies."""
        if self._started_by == "block":
            return 1, self.rows, self.columns
        group = self._started_by == "group"
        sharers = max(1, self.warps // 4) if group else self.warps
        least_rows, least_columns = (GROUP_ROWS if group else WARP_SIDES[0]), WARP_SIDES[1]
        splits = [2**power for power in range(sharers.bit_length()) if sharers % 2**power == 0]
        sides = [
            (max(self.rows // down, least_rows), max(self.columns // (sharers // down), least_columns))
            for down in splits
        ]
        return (sharers, *min(sides, key=sum))

    @property
    def flops(self) -> int:
        """FLOPs of one step."""
        return 2 * self.rows * self.columns * self.step

    def product_s(self, rates: Rates) -> float:
        """Seconds of the product of one step, alone on a processor; spilled sums are stored and loaded in between."""
        sharers, rows, columns = self._parts
        share = 1.0
        if not self.tensor_cores:
            share = FMA_SHARE
        elif self._started_by == "warp":
            share = self.chip.warp_share
        elif self._started_by == "block":
            share = min(1.0, self.rows / BLOCK_ROWS)
        if self.tf32:
            share *= self.chip.tf32 / TF32_PRODUCTS
        flops = 2 * sharers * rows * columns * self.step
        spilled_bytes = 2 * 4 * self.spilled * self.warps * self.chip.lanes
        # Where shared memory is in use there is little of the cache that it shares its room with.
        spilling_s = spilled_bytes / (PORT_CYCLE_BYTES * self.chip.clock_hz)
        return flops * self.hardware.processors / (rates.flops_per_s * share) + spilling_s

    @property
    def step_bytes(self) -> int:
        """Bytes of both operands of one step."""
        return (self.rows + self.columns) * self.step * self.element

    @property
    def loading(self) -> int:
        """Steps whose copies are under way while one is multiplied."""
        return max(1, self.stages - 1)

    @property
    def shared_bytes(self) -> int:
        """Bytes of its buffers; a warp's products hold operands in registers, which frees their buffer early."""
        buffers = self.loading if self._started_by == "warp" else self.stages
        return buffers * self.step_bytes + self.more_bytes

    @cached_property
    def shared_s(self) -> float:
        """Seconds of one step in shared memory: operands are written, and read by each unit that multiplies them."""
        sharers, rows, columns = self._parts
        products = TF32_PRODUCTS if self.tf32 else 1
        read = products * sharers * (rows + columns) * self.step * self.element
        return (self.step_bytes + read) / (SHARED_CYCLE_BYTES * self.chip.clock_hz)

    @cached_property
    def around_s(self) -> float:
        """Seconds of one step around its product: a barrier and starting the copies; other warps hide a part."""
        if self.specialise:
            return 0.0
        copies = self.by_pointer * self.step * self.element / (COPY_BYTES * self.chip.lanes)
        return (STEP_CYCLES + copies * COPY_INSTRUCTIONS / max(self.warps, SCHEDULERS)) / self.chip.clock_hz

    @cached_property
    def store_s(self) -> float:
        """Seconds of the stores after the last step."""
        instructions = self.rows * self.columns * STORE_INSTRUCTIONS / self.chip.lanes
        return instructions / SCHEDULERS / self.chip.clock_hz

    @cached_property
    def _wanted_registers(self) -> tuple[int, int]:
        """Registers that a thread needs, and those that it would use for operands and pointers if available."""
        threads = self.warps * self.chip.lanes
        needed = self.fixed_registers + self.rows * self.columns // threads
        pointers = 2 * self.by_pointer * self.step * self.element // (COPY_BYTES * threads)
        if not self.tensor_cores:
            # A thread multiplies slices as long as the sides of its part of the tile; half of them wait in registers.
            return needed, pointers + round(math.sqrt(self.rows * self.columns / threads)) * self.step
        if self._started_by != "warp":
            return needed, pointers
        _, rows, columns = self._parts
        return needed, pointers + (rows + columns) * min(self.step, SLICE) * self.element // (4 * self.chip.lanes)

    @property
    def _most_registers(self) -> int:
        return min(MOST_REGISTERS, REGISTERS * SCHEDULERS // max(self.warps, SCHEDULERS))

    @property
    def registers(self) -> int:
        """Registers of a thread."""
        return min(self._most_registers, sum(self._wanted_registers))

    @property
    def spilled(self) -> int:
        """Values of a thread that find no register."""
        return max(0, self._wanted_registers[0] - self._most_registers)

    @cached_property
    def resident(self) -> int:
        """Programs that a processor holds at once."""
        room = PROCESSORS[self.hardware.target]
        held = room.programs_of(
            warps=self.warps + (4 if self.specialise else 0),
            registers=self.registers,
            shared_bytes=self.shared_bytes,
            tensor_columns=self.columns if self._started_by == "block" else 0,
        )
        return max(1, held)


@dataclass(frozen=True, kw_only=True)
class Grid:
    """The step of one launch: ``tiles``, each made by a program in ``steps`` on average and ``longest`` at most.

    ``idle`` programs find no tile. With ``persistent`` programs a processor each takes tile after tile. ``useful`` of
    the FLOPs are not padding. ``l2_bytes`` go through the L2, ``memory_bytes`` of them to or from memory.
    In a ``flattened`` loop the first steps of a persistent program's next tile load while this one is stored.
    """

    name: str
    program: Program
    tiles: int
    idle: int
    steps: float
    longest: float
    useful: float
    l2_bytes: float
    memory_bytes: float
    persistent: int = 0
    flattened: bool = False

    @property
    def moved_bytes(self) -> float:
        """See `Step.moved_bytes`."""
        return self.memory_bytes

    @property
    def flops(self) -> float:
        """FLOPs of all tiles, padding included."""
        return self.tiles * self.steps * self.program.flops

    @property
    def beside(self) -> int:
        """Programs side by side on a processor."""
        resident = self.program.resident
        return min(self.persistent, resident) if self.persistent else resident

    @property
    def slots(self) -> int:
        """Programs side by side on the device: one wave."""
        return self.beside * self.program.hardware.processors

    def seconds(self, rates: Rates) -> float:
        """Return the time of a start, then of wave after wave, each as long as its longest bound."""
        product_s = self.program.product_s(rates)
        waves = sum(_together(bounds) for bounds in self._bounds(rates, product_s))
        longest = self._alone_s(product_s, self.longest) if self.longest > self.steps else 0.0
        chip = self.program.chip
        empty_s = (START_CYCLES + chip.l2_cycles) / chip.clock_hz * self.idle / self.slots
        return rates.call_s + max(waves, longest) + empty_s

    def why(self, rates: Rates) -> str:
        """Return bound, waves, resources and bytes; ``program`` is the time of one program, latencies included."""
        program = self.program
        if not self.tiles:
            return f"start: no tiles, {self.idle} idle programs"
        product_s = program.product_s(rates)
        found: dict[str, float] = {}
        for bounds in self._bounds(rates, product_s):
            for name, value in bounds.items():
                found[name] = found.get(name, 0.0) + value
        if self.longest > self.steps:
            found["longest program"] = self._alone_s(product_s, self.longest)
        bound = max(found, key=lambda name: found[name])
        spills = f", {program.spilled} spilled" if program.spilled else ""
        shares = ", ".join(f"{name} {value * 1e6:.3g}" for name, value in found.items())
        return (
            f"{bound}: {self.tiles} tiles in {self.tiles / self.slots:.1f} waves of {self.slots} "
            f"({self.beside} a processor: {program.registers} registers{spills}, {program.shared_bytes >> 10} KiB), "
            f"{1 - self.useful / self.flops if self.flops else 0:.0%} padding, {self.l2_bytes / 1e6:.3g} MB from L2, "
            f"{self.memory_bytes / 1e6:.3g} MB of memory; µs of {shares}"
        )

    def _waves(self, slots: int) -> Iterator[int]:
        """Yield the programs of all full waves together, and those of the last one when it is not full."""
        full, rest = divmod(self.tiles, slots)
        if full:
            yield full * slots
        if rest:
            yield rest

    def _bounds(self, rates: Rates, product_s: float) -> Iterator[dict[str, float]]:
        """Yield the seconds by bound of all full waves together, and of the last one when it is not full.

        Times that one processor needs as all do are counted by the wave, the others by the programs' share. A step's
        product takes ``product_s``.
        """
        program, chip = self.program, self.program.chip
        slots, alone_s = self.slots, self._alone_s(product_s, self.steps)
        for programs in self._waves(slots):
            waves, share = max(1, programs // slots), programs / self.tiles
            turns = waves * min(self.beside, -(-programs // program.hardware.processors))
            yield {
                "products": turns * self.steps * product_s,
                "shared memory": turns * self.steps * program.shared_s,
                "port to L2": turns * self.l2_bytes / self.tiles / (PORT_CYCLE_BYTES * chip.clock_hz),
                "program": waves * alone_s,
                "L2": self.l2_bytes * share / (chip.l2_cycle_bytes * chip.clock_hz),
                "memory": self.memory_bytes * share / rates.bytes_per_s,
            }

    def _alone_s(self, product_s: float, steps: float) -> float:
        """Return the time of one program by itself: the time before its first step, the steps, and the stores."""
        program, chip = self.program, self.program.chip
        from_memory = min(1.0, self.memory_bytes / self.l2_bytes) if self.l2_bytes else 0.0
        latency = chip.l2_cycles + (chip.memory_cycles - chip.l2_cycles) * from_memory
        load_s = (latency + program.step_bytes / PORT_CYCLE_BYTES) / chip.clock_hz
        busy_s = max(product_s, program.shared_s) + program.around_s
        first_s = CHAIN * chip.l2_cycles / chip.clock_hz + load_s
        if not self.persistent:
            first_s += START_CYCLES / chip.clock_hz
        if program.specialise or self.flattened:
            first_s = 0.0  # the copies of the next tile have long begun
        return first_s + steps * max(busy_s, load_s / program.loading) + program.store_s


def _together(bounds: dict[str, float]) -> float:
    """Return the longest of the times of a processor, of L2 and of memory, and a little of the others."""
    inside = max(bounds[name] for name in ("products", "shared memory", "port to L2", "program"))
    shares = (inside, bounds["L2"], bounds["memory"])
    return max(shares) + SHOWN * (sum(shares) - max(shares))


@dataclass(frozen=True, kw_only=True)
class MemoryStream:
    """A step of launches that only move ``moved_bytes``, or wait for ``chain_s``."""

    name: str
    moved_bytes: float
    calls: int = 1
    chain_s: float = 0.0

    def seconds(self, rates: Rates) -> float:
        """Return the time of the starts and of the bytes."""
        return self.calls * rates.call_s + max(self.moved_bytes / rates.bytes_per_s, self.chain_s)

    def why(self, rates: Rates) -> str:
        """Return the bytes and the starts."""
        moving = self.moved_bytes / rates.bytes_per_s
        bound = "start" if self.calls * rates.call_s > max(moving, self.chain_s) else "memory"
        if self.chain_s > moving:
            bound = "latency"
        return f"{bound}: {self.moved_bytes / 1e6:.3g} MB, {self.calls} start{'s' if self.calls > 1 else ''}"
