"""What an exception says of an implementation: that memory was full, that it cannot be compiled, or that it crashed."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from ..results.record import Status

COMPILERS = ("triton", "cupy.cuda.compiler")
# What Triton raises for a pass that fails has no type of its own.
BROKEN = "PassManager::run failed"


def ending(error: BaseException) -> Status:
    """The status of an implementation that raised ``error``."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return Status.out_of_memory
    if any(_of_a_compiler(cause) for cause in _causes(error)):
        return Status.uncompilable
    return Status.crashed


def first_line(error: Exception) -> str:
    """An exception in one line: its type, and the first line of what it says."""
    return f"{type(error).__name__}: {(str(error) or 'no message').splitlines()[0]}"


def _of_a_compiler(error: BaseException) -> bool:
    module = type(error).__module__
    return BROKEN in str(error) or any(module == name or module.startswith(f"{name}.") for name in COMPILERS)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """An exception, what it was raised from, what that was raised from, and so on."""
    while error is not None:
        yield error
        error = error.__cause__
