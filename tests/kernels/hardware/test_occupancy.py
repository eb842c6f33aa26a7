"""Resident programs on a processor, compared with the occupancy calculators of the makers."""

from __future__ import annotations

import pytest

from moebench.kernels.hardware.gpus import PROCESSORS


@pytest.mark.parametrize(
    ("target", "warps", "registers", "kib", "columns", "programs"),
    [
        ("sm_90", 8, 255, 192, 0, 1),
        ("sm_90", 8, 128, 64, 0, 2),  # 256 threads of 128 registers are half of 65536
        ("sm_90", 8, 129, 0, 0, 1),  # rounded up to 136
        ("sm_90", 4, 32, 0, 0, 16),  # 64 warps
        ("sm_90", 1, 32, 0, 0, 32),  # never more
        ("sm_90", 4, 32, 113, 0, 2),  # 228 KiB, of which every program costs 1 more
        ("sm_90", 4, 32, 114, 0, 1),
        ("sm_80", 4, 32, 163, 0, 1),
        ("sm_80", 4, 32, 164, 0, 0),
        ("sm_100", 4, 32, 0, 256, 2),
        ("gfx942", 4, 168, 0, 0, 3),  # LLVM says so in the code of a kernel of 168 registers
        ("gfx942", 8, 168, 0, 0, 1),
        ("gfx942", 4, 12, 0, 0, 8),  # 32 waves
        ("gfx942", 4, 12, 32, 0, 2),
    ],
)
def test_the_scarcest_resource_decides(
    target: str, warps: int, registers: int, kib: int, columns: int, programs: int
) -> None:
    limits = PROCESSORS[target]
    held = limits.programs_of(warps=warps, registers=registers, shared_bytes=kib << 10, tensor_columns=columns)
    assert held == programs
