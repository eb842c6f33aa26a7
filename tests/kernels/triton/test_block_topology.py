"""The block topology lists the nonzero blocks of a dense mask, without waiting for the device."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from route_cases import counted

from moebench.kernels.triton.block_topology import INDICES, BlockTopology
from moebench.kernels.triton.launch import recording
from moebench.kernels.triton.permutation import Blocked, Schedule, block_bound, order

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


def schedule_of(counts: list[int], side: int, *, missing: int = 0, device: torch.device = DEVICE) -> Schedule:
    """Return blocks of experts with these route counts; ``missing`` routes leave the end of the bound unused."""
    ids_N1 = torch.cat((counted(*counts), torch.full((missing, 1), -1, dtype=torch.int32))).to(device)
    return order(ids_N1, experts=len(counts), layout=Blocked(block=side), blocks=(side,))[1][0]


def pairs_of(counts: list[int], side: int, columns: int) -> list[tuple[int, int]]:
    """Return (block row, block column) of every nonzero block of a dense mask, row by row."""
    experts = [e for e, count in enumerate(counts) for _ in range(-(-count // side))]
    mask = torch.zeros(len(experts), len(counts) * columns, dtype=torch.bool)
    for row, e in enumerate(experts):
        mask[row, e * columns : (e + 1) * columns] = True
    return [(row, column) for row, column in mask.nonzero().tolist()]


def assert_topology(counts: list[int], side: int, columns: int, missing: int) -> None:
    topology = BlockTopology.of(schedule_of(counts, side, missing=missing), columns=columns)
    by_row = pairs_of(counts, side, columns)
    by_column = sorted(by_row, key=lambda pair: (pair[1], pair[0]))
    unused = [-1] * (block_bound(sum(counts) + missing, len(counts), side) * columns - len(by_row))
    assert topology.transpose_Z.tolist() == [by_row.index(pair) for pair in by_column] + unused
    assert topology.row_Z.tolist() == [row for row, _ in by_column] + unused
    starts = [sum(other < column for _, other in by_row) for column in range(len(counts) * columns + 1)]
    assert topology.first_J.tolist() == starts


@given(
    counts=st.lists(st.integers(0, 20), min_size=1, max_size=6),
    side=st.integers(1, 8),
    columns=st.integers(1, 5),
    missing=st.integers(0, 10),
)
def test_nonzeros_by_column_are_those_of_a_dense_mask(counts: list[int], side: int, columns: int, missing: int) -> None:
    assert_topology(counts, side, columns, missing)


@pytest.mark.parametrize(
    ("counts", "columns"),
    [([0, 0, 0], 2), ([0, 1, 15, 16, 17, 0], 3), ([16 * 30, 3, 0, 16 * 50], 40), ([0] * 700 + [1], 3)],
    ids=["no rows", "around a block", "more nonzeros than a program writes", "more columns than a program writes"],
)
def test_awkward_topologies(counts: list[int], columns: int) -> None:
    assert_topology(counts, 16, columns, missing=5)


def test_awkward_topologies_are_larger_than_a_program() -> None:
    assert min(80 * 40, 701 * 3) > INDICES


def test_everything_is_int32_and_the_host_knows_every_size() -> None:
    """The device ``meta`` has no values, so that only shapes can be read."""
    real = BlockTopology.of(schedule_of([3, 0, 20], 16, missing=9), columns=4)
    with recording() as launches:
        schedule = schedule_of([3, 0, 20], 16, missing=9, device=torch.device("meta"))
        imagined = BlockTopology.of(schedule, columns=4)
    assert [launch.name for launch in launches] == ["connect"]
    for name in ("transpose_Z", "row_Z", "first_J"):
        found, meta = getattr(real, name), getattr(imagined, name)
        assert (found.dtype, found.shape) == (meta.dtype, meta.shape) == (torch.int32, found.shape)
