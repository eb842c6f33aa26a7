"""Checksums of tensors that any write changes, one that only moves values included."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from functools import cache
from typing import Final

import torch
from torch import Tensor

from ....kernels.problem.tensors import Inputs

WORD: Final = 8  # bytes that are summed as one integer
CHUNK_WORDS: Final = {"cpu": 1 << 19, "cuda": 1 << 23}  # a CPU is half as fast with 1 << 16; few launches on a GPU


def checksums(inputs: Inputs) -> dict[str, int]:
    """Return the checksum of every input by name."""
    return {name: checksum(tensor) for name, tensor in inputs.everything().items()}


def changed(inputs: Inputs, before: Mapping[str, int]) -> list[str]:
    """Return the names of the inputs whose checksum is not the one that it was; names without one are left out."""
    return [name for name, tensor in inputs.everything().items() if checksum(tensor) != before.get(name)]


def checksum(tensor: Tensor) -> int:
    """Return the sum of all words of a tensor, each times a factor of its place, modulo 2^64.

    The factors are odd, so that no changed word is lost, and drawn anew in every process, so that no kernel knows them.
    Bits are summed, not values: NaN has a checksum like any other value.
    """
    flat = tensor.detach().contiguous().view(-1).view(torch.uint8)
    whole = flat.numel() // WORD * WORD
    factors, products = _room(tensor.device)
    total = torch.zeros((), dtype=torch.int64, device=tensor.device)
    for part in flat[:whole].view(torch.int64).split(factors.numel()):
        torch.mul(part, factors[: part.numel()], out=products[: part.numel()])
        total = total * factors[1] + products[: part.numel()].sum()
    rest = flat[whole:].long()
    return int(total * factors[0] + (rest * factors[: rest.numel()]).sum())


@cache
def _room(device: torch.device) -> tuple[Tensor, Tensor]:
    """Return the factors of the places in a chunk, and memory for the products."""
    words = CHUNK_WORDS[device.type]
    generator = torch.Generator(device).manual_seed(secrets.randbits(63))
    factors = torch.randint(-(1 << 62), 1 << 62, (words,), generator=generator, device=device) * 2 + 1
    return factors, torch.empty_like(factors)
