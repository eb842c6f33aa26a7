"""Rows as bytes: unpacked rows equal the packed ones, up to the rounding of the format they are sent in."""

from __future__ import annotations

from typing import get_args

import torch
from hypothesis import given
from hypothesis import strategies as st

from moebench.kernels.expert_parallel.packing import pack, unpack, unpack_words
from moebench.kernels.expert_parallel.wire_format import SCALED, WireRow
from moebench.kernels.problem import DType
from moebench.kernels.problem.tensors import TORCH_DTYPES

DTYPES = [torch.float32, torch.bfloat16, torch.float16]


@given(
    rows=st.integers(0, 5),
    elements=st.integers(1, 300),
    words=st.integers(0, 3),
    wire=st.sampled_from(get_args(DType)),
    dtype=st.sampled_from(DTYPES),
    seed=st.integers(0, 100),
)
def test_words_come_out_as_they_went_in_and_elements_as_rounded(
    rows: int, elements: int, words: int, wire: DType, dtype: torch.dtype, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    x_MD = torch.randn(rows, elements, generator=generator).to(dtype)
    ids_Mk = torch.randint(-1, 1000, (rows, words), generator=generator, dtype=torch.int32)
    gates_Mk = torch.randn(rows, words, generator=generator)
    row = WireRow(elements=elements, format=wire, words=2 * words)
    buffer_MB = pack(row, x_MD, (ids_Mk, gates_Mk))
    assert buffer_MB.shape == (rows, row.bytes)
    assert torch.equal(unpack_words(buffer_MB, torch.int32, 0, words), ids_Mk)
    assert torch.equal(unpack_words(buffer_MB, torch.float32, words, words), gates_Mk)
    out_MD = unpack(row, buffer_MB, torch.float32)
    if wire == "float8_e4m3fn":
        # e4m3 has 3 bits after the point: half of the last one, and a little for the rounding of the scale.
        largest_M1 = x_MD.float().abs().amax(1, keepdim=True) if elements else x_MD.float()
        assert bool(((out_MD - x_MD.float()).abs() <= x_MD.float().abs() / 16 + largest_M1 * 2**-9).all())
    else:
        assert torch.equal(out_MD, x_MD.to(TORCH_DTYPES[wire]).float())


def test_every_128_elements_have_a_scale_of_their_own() -> None:
    x_MD = torch.cat((torch.full((1, SCALED), 1e-6), torch.full((1, SCALED), 1e6)), dim=1)
    row = WireRow(elements=2 * SCALED, format="float8_e4m3fn")
    assert torch.allclose(unpack(row, pack(row, x_MD), torch.float32), x_MD, rtol=1e-6)
