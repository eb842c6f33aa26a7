"""Checksums: any write moves them, whatever it keeps."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from moebench.execution.trial.checks.checksum import CHUNK_WORDS, checksum


def swap(tensor: Tensor, one: tuple[int, int], other: tuple[int, int]) -> Tensor:
    tensor[one], tensor[other] = tensor[other].clone(), tensor[one].clone()
    return tensor


WRITES: dict[str, Callable[[Tensor], object]] = {
    "two rows swapped": lambda t: t.copy_(t[[1, 0, *range(2, len(t))]]),
    "two columns swapped": lambda t: t.copy_(t[:, [3, 1, 2, 0, *range(4, t.shape[1])]]),
    "neighbours swapped": lambda t: swap(t, (2, 0), (2, 1)),
    "a rectangle turned": lambda t: swap(swap(t, (0, 0), (0, 8)), (1, 0), (1, 8)),
    "the sign of a zero": lambda t: t[4, 4].neg_(),
    "the last bit of one": lambda t: t.view(torch.uint8)[-1, -1].bitwise_xor_(1),
}


@pytest.mark.parametrize("write", WRITES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_write_is_seen(write: str, dtype: torch.dtype) -> None:
    tensor = torch.randn(12, 21).to(dtype)  # its bytes are no whole number of words
    tensor[4, 4] = 0.0
    before = checksum(tensor)
    assert checksum(tensor.clone()) == before
    WRITES[write](tensor)
    assert checksum(tensor) != before


def test_values_without_order_and_tensors_without_values_have_one() -> None:
    nothing = torch.full((5, 3), torch.nan)
    assert checksum(nothing) == checksum(nothing.clone())
    assert checksum(torch.empty(4, 0)) == 0
    floats = torch.randn(4, 6).to(torch.float8_e4m3fn)
    assert checksum(floats) == checksum(floats.clone())
    ids = torch.randint(0, 9, (7, 3), dtype=torch.int32)
    assert checksum(ids) != checksum(ids.flip(0))


def test_places_in_different_chunks_differ() -> None:
    words = CHUNK_WORDS["cpu"]
    tensor = torch.arange(3 * words, dtype=torch.int64)
    before = checksum(tensor)
    tensor[[0, words]] = tensor[[words, 0]]
    assert checksum(tensor) != before
