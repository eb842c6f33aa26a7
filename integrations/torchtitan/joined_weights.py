"""Gate and up weights that torchtitan keeps apart, joined for kernels that read them as one tensor.

A joined copy is as large as both weights. Were it kept for the backward pass, FSDP would free the gathered weights of a
layer after its forward in vain: each layer would still hold two thirds of them. So it is made again when the backward
pass asks for it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks


def joined(gate_EFD: Tensor, up_EFD: Tensor) -> Tensor:
    """Return one tensor (E, 2 F, D), the gate's rows first; it is a copy, and differentiable in both."""
    return torch.cat((gate_EFD, up_EFD), dim=1)


@dataclass(frozen=True)
class _ViewOfJoined:
    """Stand-in for a saved view of a joined tensor."""

    size: torch.Size
    stride: tuple[int, ...]
    offset: int


@contextlib.contextmanager
def not_kept(joined_EUD: Tensor, gate_EFD: Tensor, up_EFD: Tensor) -> Iterator[None]:
    """Let what runs inside save no view of a joined tensor for its backward pass, which joins the weights again.

    The weights must have the same values then: their storage may have been freed and filled in between, as FSDP does.
    """
    if torch.compiler.is_compiling():  # the compiler itself decides what is kept and what is made again
        yield
        return
    place = joined_EUD.untyped_storage().data_ptr()

    def pack(saved: Tensor) -> Tensor | _ViewOfJoined:
        if saved.untyped_storage().data_ptr() != place:
            return saved
        return _ViewOfJoined(saved.size(), saved.stride(), int(saved.storage_offset()))

    def unpack(kept: Tensor | _ViewOfJoined) -> Tensor:
        if isinstance(kept, Tensor):
            return kept
        with torch.no_grad():
            return joined(gate_EFD, up_EFD).as_strided(kept.size, kept.stride, kept.offset)

    with saved_tensors_hooks(pack, unpack):
        yield
