"""The status that an exception gives a trial: out of memory, uncompilable, unsupported or crashed."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from ...results.record import Status
from ...results.timing.cuda_clock import CannotCapture

COMPILERS = ("triton", "cupy.cuda.compiler")
# Triton raises a plain RuntimeError with these words when a compiler pass fails.
BROKEN = "PassManager::run failed"
# Messages of libraries that have no exception type for it: torch's allocator on a CPU, cuBLAS, and the CUDA runtime and
# driver as torch, Triton and CuPy quote them.
NO_MEMORY = (
    "can't allocate memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "error: out of memory",
    "Error [CUDA]: out of memory",
    "CUDA_ERROR_OUT_OF_MEMORY",
    "cudaErrorMemoryAllocation",
)


def ending(error: BaseException) -> Status:
    """Return the status of an implementation that raised ``error``."""
    if any(_of_memory(cause) for cause in _causes(error)):
        return Status.out_of_memory
    if isinstance(error, CannotCapture):
        return Status.unsupported
    if any(_of_a_compiler(cause) for cause in _causes(error)):
        return Status.uncompilable
    return Status.crashed


def _of_memory(error: BaseException) -> bool:
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in NO_MEMORY)


def _of_a_compiler(error: BaseException) -> bool:
    module = type(error).__module__
    return BROKEN in str(error) or any(module == name or module.startswith(f"{name}.") for name in COMPILERS)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an exception, the one that it was raised from, and so on."""
    while error is not None:
        yield error
        error = error.__cause__
