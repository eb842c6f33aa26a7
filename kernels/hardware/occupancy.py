"""Occupancy: the number of programs of a kernel that one processor holds at once."""

from __future__ import annotations

from dataclasses import dataclass

# A processor has four schedulers, to which the warps of a program are dealt out. Each has 512 registers of 32 bits for
# every thread of a warp, and gives a warp some multiple of 8 of them. The two makers agree in this.
SCHEDULERS = 4
REGISTERS = 512
REGISTER_STEP = 8
MOST_REGISTERS = 255  # of a thread (CUDA C++ Programming Guide, technical specifications)


@dataclass(frozen=True, kw_only=True)
class ProcessorLimits:
    """Limits of one processor besides registers.

    A scheduler holds at most ``warps`` warps, the processor at most ``programs`` programs. Shared memory is given in
    multiples of ``shared_step``, and ``reserved_bytes`` of it go to the system with every program. ``tensor_columns``
    of tensor memory are 0 where there is none.
    """

    warps: int
    programs: int
    shared_bytes: int
    shared_step: int
    reserved_bytes: int
    tensor_columns: int = 0

    def programs_of(self, *, warps: int, registers: int, shared_bytes: int, tensor_columns: int) -> int:
        """Return how many programs fit side by side, each with ``warps`` and ``registers`` a thread; 0 when none fits.

        The formula is that of ``cuda_occupancy.h`` in the CUDA toolkit; LLVM's ``AMDGPUBaseInfo`` has the same with
        AMD's numbers.
        """
        warps_held = min(self.warps, REGISTERS // _up(registers, REGISTER_STEP))
        shared = _up(shared_bytes + self.reserved_bytes, self.shared_step)
        by_warps = SCHEDULERS * warps_held // warps
        by_shared = self.shared_bytes // shared if shared else self.programs
        by_columns = self.tensor_columns // tensor_columns if tensor_columns else self.programs
        return min(self.programs, by_warps, by_shared, by_columns)


def _up(number: int, step: int) -> int:
    return -(-number // step) * step
