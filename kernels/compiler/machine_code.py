"""Counters read from the machine code of a compiled kernel: registers, spills, shared memory, instructions."""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import triton

from ..hardware.occupancy import ProcessorLimits

# Names without their dotted suffixes; NVIDIA's are listed in the CUDA Binary Utilities, AMD's in the ISA guides.
TENSOR_CORE = re.compile(r"[HIDBQO]MMA|[HIQB]GMMA|UTC[A-Z]*MMA|v_s?mfma[a-z]*_\w+")
BULK_COPY = re.compile(r"UTMALDG|UTMASTG|UTMAREDG|UBLKCP|LDGSTS|(?:buffer|global)_load_\w*lds\w*")
SPILL = re.compile(r"LDL|STL|scratch_(?:load|store)\w*")

_SASS = re.compile(r"^\s+/\*[0-9a-f]{4,}\*/\s+(?:@\S+\s+)?([A-Z]\w*)", re.MULTILINE)
_SASS_BYTES = 16  # of an instruction
_GCN = re.compile(r"^\s+([a-z]\w*)(.*)$", re.MULTILINE)


@dataclass(frozen=True, kw_only=True)
class CodeCounters:
    """The counters of one compiled kernel.

    ``registers`` are those of a thread, on AMD with the accumulation registers. ``spill_bytes`` of its stack hold
    values that found no register. ``shared_bytes`` is the shared memory of a program, static and dynamic together.
    ``tensor_columns`` are columns of Blackwell's tensor memory. ``occupancy`` counts the programs that one processor
    holds at once, each of ``warps``. The rest are counts of instructions by name: ``tensor_core`` products,
    ``bulk_copies`` that go to shared memory past the registers, and the ``spills``.
    """

    warps: int
    occupancy: int
    registers: int
    shared_bytes: int
    code_bytes: int
    spill_bytes: int = 0
    tensor_columns: int = 0
    tensor_core: Mapping[str, int] = field(default_factory=dict)
    bulk_copies: Mapping[str, int] = field(default_factory=dict)
    spills: Mapping[str, int] = field(default_factory=dict)


CodeReader = Callable[[Any, ProcessorLimits], CodeCounters]
"""Reads the counters of a kernel that Triton compiled, for a processor with given limits: see the two below."""


@cache  # Triton keeps what it compiled, and gives the same kernel for an equal launch
def all_counters(compiled: Any, room: ProcessorLimits) -> CodeCounters:
    """Return all counters. Disassembling the code takes about as long as compiling it."""
    return _counters(compiled, room, "-res-usage", "-sass")


@cache
def resources(compiled: Any, room: ProcessorLimits) -> CodeCounters:
    """Return the counters without the size of the code and the counts of instructions, in a few milliseconds."""
    return _counters(compiled, room, "-res-usage")


def _counters(compiled: Any, room: ProcessorLimits, *wanted: str) -> CodeCounters:
    metadata, code = compiled.metadata, compiled.asm
    said = _of_sass(_dumped(code["cubin"], *wanted)) if "cubin" in code else _of_gcn(code["amdgcn"])
    # Since Hopper the system's part of shared memory is in the binary.
    shared_bytes = metadata.shared + max(0, said.static_bytes - room.reserved_bytes)
    tensor_columns = getattr(metadata, "tmem_size", 0)
    return CodeCounters(
        warps=metadata.num_warps,
        occupancy=room.programs_of(
            warps=metadata.num_warps,
            registers=said.registers,
            shared_bytes=shared_bytes,
            tensor_columns=tensor_columns,
        ),
        registers=said.registers,
        shared_bytes=shared_bytes,
        code_bytes=said.code_bytes,
        spill_bytes=said.stack_bytes,
        tensor_columns=tensor_columns,
        tensor_core=said.named(TENSOR_CORE),
        bulk_copies=said.named(BULK_COPY),
        spills=said.named(SPILL),
    )


def worst(several: Sequence[CodeCounters]) -> CodeCounters:
    """Return the worst value of several launches for each counter, and the instructions of all."""
    return CodeCounters(
        warps=max(found.warps for found in several),
        occupancy=min(found.occupancy for found in several),
        registers=max(found.registers for found in several),
        shared_bytes=max(found.shared_bytes for found in several),
        code_bytes=max(found.code_bytes for found in several),
        spill_bytes=max(found.spill_bytes for found in several),
        tensor_columns=max(found.tensor_columns for found in several),
        tensor_core=_sum([found.tensor_core for found in several]),
        bulk_copies=_sum([found.bulk_copies for found in several]),
        spills=_sum([found.spills for found in several]),
    )


@dataclass(frozen=True, kw_only=True)
class _Said:
    """Numbers found in the text of machine code."""

    registers: int
    stack_bytes: int
    static_bytes: int
    code_bytes: int
    instructions: Counter[str]

    def named(self, pattern: re.Pattern[str]) -> dict[str, int]:
        return {name: count for name, count in sorted(self.instructions.items()) if pattern.fullmatch(name)}


def _dumped(cubin: bytes, *wanted: str) -> str:
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        command = [triton.knobs.nvidia.cuobjdump.path, *wanted, file.name]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout  # noqa: S603  # Triton's own


def _of_sass(text: str) -> _Said:
    instructions = Counter(_SASS.findall(text))
    return _Said(
        registers=_number(r"\bREG:(\d+)", text),
        stack_bytes=_number(r"\bSTACK:(\d+)", text),
        static_bytes=_number(r"\bSHARED:(\d+)", text),
        code_bytes=instructions.total() * _SASS_BYTES,
        instructions=instructions,
    )


def _of_gcn(text: str) -> _Said:
    # A load that ends in `lds` does not go to a register; its name does not say so.
    names = (f"{name}_lds" if rest.endswith(" lds") else name for name, rest in _GCN.findall(text))
    return _Said(
        registers=_number(r"\.vgpr_count:\s+(\d+)", text),
        stack_bytes=_number(r"\.private_segment_fixed_size:\s+(\d+)", text),
        static_bytes=_number(r"\.group_segment_fixed_size:\s+(\d+)", text),
        code_bytes=_number(r"codeLenInByte = (\d+)", text),
        instructions=Counter(names),
    )


def _number(pattern: str, text: str) -> int:
    found = re.search(pattern, text)
    if found is None:
        raise ValueError(f"the machine code does not say {pattern!r}")
    return int(found[1])


def _sum(counts: Sequence[Mapping[str, int]]) -> dict[str, int]:
    total: Counter[str] = Counter()
    for count in counts:
        total.update(count)
    return dict(sorted(total.items()))
