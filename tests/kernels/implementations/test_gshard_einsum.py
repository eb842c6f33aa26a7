"""Tests of how the dense dispatch finds rows that are not finite."""

from __future__ import annotations

import pytest
import torch

from moebench.kernels.implementations.gshard_einsum import _broken


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_rows_that_are_not_finite_are_found(dtype: torch.dtype) -> None:
    rows = torch.ones(4, 3, dtype=dtype)
    assert _broken(rows) is None
    rows[0, 1], rows[2, 2] = torch.inf, -torch.inf  # whose sum is NaN
    found = _broken(rows)
    assert found is not None
    assert found.tolist() == [True, False, True, False, False]


def test_a_sum_that_overflows_breaks_no_row() -> None:
    found = _broken(torch.full((2, 3), 60_000, dtype=torch.float16))
    assert found is not None
    assert not found.any()
