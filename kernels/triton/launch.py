"""Launches of Triton kernels: run at once, or recorded to be compiled for another device."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar, copy_context
from dataclasses import dataclass
from typing import Any

import torch
import triton

from ..instruments.launch_counter import launched

INTERPRETED: bool = triton.knobs.runtime.interpret
"""Whether kernels run in Triton's interpreter: on CPU tensors, because TRITON_INTERPRET=1 was set before its import."""


@dataclass(frozen=True, kw_only=True)
class Launch:
    """One launch of a kernel: everything that its machine code depends on, and the number of programs."""

    kernel: Any
    programs: int
    arguments: tuple[Any, ...]
    constants: Mapping[str, Any]
    warps: int
    stages: int
    pdl: bool = False

    @property
    def name(self) -> str:
        """The name of the kernel's function."""
        return str(self.kernel.__name__)

    @property
    def options(self) -> dict[str, Any]:
        """Options of the compiler besides the constants."""
        # Explicit, because the default of Triton 3.10 differs: a product is added without rounding it first.
        options = {"num_warps": self.warps, "num_stages": self.stages, "enable_fp_fusion": True}
        return options | {"launch_pdl": True} if self.pdl else options  # only NVIDIA's compiler knows the option


_written: ContextVar[list[Launch] | None] = ContextVar("_written", default=None)


@contextmanager
def recording() -> Iterator[list[Launch]]:
    """Record launches instead of running them; for layers that are called with tensors on the device ``meta``."""
    launches: list[Launch] = []
    token = _written.set(launches)
    try:
        yield launches
    finally:
        _written.reset(token)


def is_recording() -> bool:
    """Return whether launches are recorded at present instead of run."""
    return _written.get() is not None


def launch(
    kernel: Any,
    programs: int,
    *arguments: Any,
    warps: int = 4,
    stages: int = 1,
    pdl: bool | None = None,
    **constants: Any,
) -> None:
    """Start ``programs`` programs of a kernel, with its positional arguments and its constexprs by name; 0 starts none.

    A kernel that takes ``PDL`` may start while the launch before it ends: give ``pdl`` to say whether it does.
    """
    if programs == 0:
        return
    if pdl is not None:
        constants["PDL"] = pdl and not INTERPRETED
    start = Launch(
        kernel=kernel,
        programs=programs,
        arguments=arguments,
        constants=constants,
        warps=warps,
        stages=stages,
        pdl=bool(constants.get("PDL")),
    )
    written = _written.get()
    if written is None:
        # In its own context: other users of Triton keep their allocator, and the thread of a backward pass has none.
        copy_context().run(_start, start)
        launched(start.name)
    else:
        written.append(start)


def _start(launch: Launch) -> None:
    triton.set_allocator(_scratch)
    launch.kernel[(launch.programs,)](*launch.arguments, **launch.options, **launch.constants)


def _scratch(size: int, alignment: int, stream: int | None) -> torch.Tensor:  # noqa: ARG001  # torch's is the stream
    """Allocate memory for the tensor descriptors that a kernel makes; torch aligns it to 512 bytes."""
    return torch.empty(size, dtype=torch.int8, device="cuda")
