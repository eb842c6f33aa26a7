"""Rows that differ: found by their bits, whatever the values, with their distance."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from moebench.execution.trial.checks.same_bits import LARGEST_DISTANCE, differing_rows, row_words

DTYPES = st.sampled_from([torch.float32, torch.float16, torch.bfloat16, torch.float64])


@given(DTYPES, st.integers(0, 9), st.integers(1, 5), st.sets(st.integers(0, 8)), st.integers(0, 99))
def test_exactly_the_changed_rows_are_found(
    dtype: torch.dtype, rows: int, width: int, changed: set[int], seed: int
) -> None:
    changed = {row for row in changed if row < rows}
    one = torch.randn(rows, width, generator=torch.Generator().manual_seed(seed)).to(dtype)
    other = one.clone()
    for row in changed:
        at = row % width
        other[row, at] = torch.nextafter(one[row, at].double(), torch.tensor(9.0).double()).to(dtype) + 1
    found = differing_rows(one, other)
    assert set(found.row_n.tolist()) == changed
    assert all(0 < distance <= LARGEST_DISTANCE for distance in found.distance_n.tolist())


@pytest.mark.parametrize(
    ("one", "other", "distance"),
    [
        (0.0, -0.0, 0.0),
        (1.0, 3.0, 2 / 3),
        (0.0, 5.0, 1.0),
        (1.0, -1.0, 2.0),
        (1.0, float("nan"), LARGEST_DISTANCE),
        (1.0, float("inf"), LARGEST_DISTANCE),
    ],
)
def test_distance_is_over_the_larger_norm(one: float, other: float, distance: float) -> None:
    found = differing_rows(torch.tensor([[1.0], [one]]), torch.tensor([[1.0], [other]]))
    assert found.row_n.tolist() == [1]
    assert found.distance_n.tolist() == [pytest.approx(distance)]


def test_the_same_nan_is_the_same() -> None:
    nan = torch.tensor([[float("nan"), 1.0]])
    assert not len(differing_rows(nan, nan.clone()).row_n)


def test_other_shapes_and_dtypes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\(2, 3\) and torch.float32, in another call it has \(3, 3\)"):
        differing_rows(torch.zeros(2, 3), torch.zeros(3, 3))
    with pytest.raises(ValueError, match=r"torch\.float16"):
        differing_rows(torch.zeros(2, 3), torch.zeros(2, 3).half())


def test_rows_are_named_by_what_they_are() -> None:
    named = [row_words(name, 3) for name in ("y", "x", "gates", "w_up")]
    assert named == ["token 3", "dx of token 3", "dgates of token 3", "dw_up of expert 3"]
