"""Bytes of rows are those that the dispatchers pack."""

from __future__ import annotations

from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moebench.kernels.cluster.wire import Wire
from moebench.kernels.parallel.wire import Formats
from moebench.kernels.problem import DType, Problem


@given(
    D=st.integers(1, 700),
    routes=st.integers(1, 8),
    dtype=st.sampled_from(get_args(DType)),
    wire=st.none() | st.sampled_from(get_args(DType)),
)
def test_rows_have_the_bytes_that_are_packed(D: int, routes: int, dtype: DType, wire: DType | None) -> None:
    problem = Problem(T=2, D=D, F=1, E=8, K=1, ranks=2, dtype=dtype, wire=wire)
    found, packed = Wire.of(problem), Formats.of(problem, routes)
    assert found.dispatched(routes) == packed.token.bytes
    assert found.returned == packed.plain.bytes
    assert found.gradient(routes) == packed.gradient.bytes


@pytest.mark.parametrize(
    ("wire", "there", "back"),
    [
        (None, 2 * 256 + 8, 2 * 256),
        ("float8_e4m3fn", 256 + 2 * 4 + 8, 2 * 256),  # a scale for every 128
        ("float32", 4 * 256 + 8, 4 * 256),
    ],
)
def test_bytes_by_hand(wire: DType | None, there: int, back: int) -> None:
    found = Wire.of(Problem(T=2, D=256, F=1, E=8, K=1, ranks=2, dtype="bfloat16", wire=wire))
    assert (found.dispatched(1), found.returned, found.gradient(2)) == (there, back, back + 8)
