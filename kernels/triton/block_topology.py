"""The nonzero blocks of the hidden activation, indexed on the device (MegaBlocks, Gale et al. 2022, section 5.2).

Every block row holds the columns of one expert, so that the number of nonzeros is bounded by the number of block rows,
which the host knows. Within an expert the transpose is that of a dense matrix of blocks: nothing has to be sorted.
"""

from __future__ import annotations

from dataclasses import dataclass

import triton
from torch import Tensor

from .block_matmul import connect
from .launch import launch
from .permutation import Schedule

INDICES = 1024  # that one program writes of each kind


@dataclass(frozen=True, kw_only=True)
class BlockTopology:
    """The nonzero blocks of a matrix whose block rows hold the block columns of one expert; every tensor is int32.

    Nonzeros are numbered row by row: z = m * columns + c is column c of the expert of block row m. ``transpose_Z``
    lists them column by column, each column from top to bottom, and ``row_Z`` has their block rows in the same order;
    those of column j are the entries from ``first_J[j]`` to ``first_J[j + 1]``. What a routing does not use is -1, at
    the end.
    """

    transpose_Z: Tensor
    row_Z: Tensor
    first_J: Tensor

    @staticmethod
    def of(schedule: Schedule, *, columns: int) -> BlockTopology:
        """Return the blocks that pair every tile of rows with all block columns of its expert."""
        experts = schedule.first_E.numel() - 1
        nonzeros = schedule.expert_M.numel() * columns
        found = BlockTopology(
            transpose_Z=schedule.expert_M.new_empty(nonzeros),
            row_Z=schedule.expert_M.new_empty(nonzeros),
            first_J=schedule.expert_M.new_empty(experts * columns + 1),
        )
        launch(
            connect,
            triton.cdiv(max(nonzeros, experts * columns + 1), INDICES),
            schedule.expert_M, schedule.first_E, found.transpose_Z, found.row_Z, found.first_J, nonzeros, experts,
            COLUMNS=columns, BLOCK=INDICES,
        )  # fmt: skip
        return found
