"""Rows as bytes: what goes in comes out, to the rounding of the format they travel in."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from moebench.kernels.parallel.wire import SCALED, Formats, Row
from moebench.kernels.problem import Problem

DTYPES = [torch.float32, torch.bfloat16, torch.float16, torch.float8_e4m3fn]


@given(
    rows=st.integers(0, 5),
    elements=st.integers(1, 300),
    words=st.integers(0, 3),
    wire=st.sampled_from(DTYPES),
    dtype=st.sampled_from(DTYPES[:3]),
    seed=st.integers(0, 100),
)
def test_words_come_out_as_they_went_in_and_elements_as_rounded(
    rows: int, elements: int, words: int, wire: torch.dtype, dtype: torch.dtype, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    x_MD = torch.randn(rows, elements, generator=generator).to(dtype)
    ids_Mk = torch.randint(-1, 1000, (rows, words), generator=generator, dtype=torch.int32)
    gates_Mk = torch.randn(rows, words, generator=generator)
    row = Row(elements=elements, dtype=wire, words=2 * words)
    buffer_MB = row.pack(x_MD, (ids_Mk, gates_Mk))
    assert buffer_MB.shape == (rows, row.bytes)
    assert torch.equal(row.unpack_words(buffer_MB, torch.int32, 0, words), ids_Mk)
    assert torch.equal(row.unpack_words(buffer_MB, torch.float32, words, words), gates_Mk)
    out_MD = row.unpack(buffer_MB, torch.float32)
    if wire == torch.float8_e4m3fn:
        # e4m3 has 3 bits after the point: half of the last one, and of the scale's own rounding nothing to speak of.
        largest_M1 = x_MD.float().abs().amax(1, keepdim=True) if elements else x_MD.float()
        assert bool(((out_MD - x_MD.float()).abs() <= x_MD.float().abs() / 16 + largest_M1 * 2**-9).all())
    else:
        assert torch.equal(out_MD, x_MD.to(wire).float())


@pytest.mark.parametrize(
    ("dtype", "elements", "words", "size"),
    [
        (torch.bfloat16, 7168, 2, 8 + 2 * 7168),
        (torch.float32, 5, 0, 20),
        (torch.bfloat16, 5, 0, 12),  # whole words
        (torch.float8_e4m3fn, 7168, 16, 64 + 7168 + 4 * 7168 // SCALED),  # DeepSeek-V3's token with 8 routes
        (torch.float8_e4m3fn, 129, 0, 2 * 4 + 132),
    ],
)
def test_bytes_of_a_row(dtype: torch.dtype, elements: int, words: int, size: int) -> None:
    assert Row(elements=elements, dtype=dtype, words=words).bytes == size


def test_every_128_elements_have_a_scale_of_their_own() -> None:
    x_MD = torch.cat((torch.full((1, SCALED), 1e-6), torch.full((1, SCALED), 1e6)), dim=1)
    row = Row(elements=2 * SCALED, dtype=torch.float8_e4m3fn)
    assert torch.allclose(row.unpack(row.pack(x_MD), torch.float32), x_MD, rtol=1e-6)


def test_float8_is_for_tokens_on_their_way_out() -> None:
    problem = Problem(T=8, D=256, F=8, E=4, K=2, ranks=2, dtype="bfloat16", wire="float8_e4m3fn")
    formats = Formats.of(problem, width=2)
    assert (formats.token.dtype, formats.token.words) == (torch.float8_e4m3fn, 4)
    assert (formats.plain.dtype, formats.plain.words) == (torch.bfloat16, 0)
    assert (formats.gradient.dtype, formats.gradient.words) == (torch.bfloat16, 2)
