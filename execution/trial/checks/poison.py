"""Memory that holds NaN where an implementation has not written yet, so that a row left out shows in its result."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import torch
from torch import Tensor

from ....kernels.oracle import Result
from ....kernels.problem.tensors import Inputs
from ....results.timing.operators import Operator, watch_operators

BLOCKS: Final = 2  # freed just before: what an allocator is likely to hand out next, whoever asks it
UNFILLED: Final = frozenset({"empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided"})


@contextmanager
def poisoned_memory(like: Tensor) -> Iterator[None]:
    """Let the floats that an operator allocates without a value be NaN, and what was freed of the size of ``like``.

    The first holds whatever the allocator does, the second also for memory that torch did not hand out.
    """
    for _ in range(BLOCKS):
        torch.full_like(like, torch.nan, requires_grad=False)
    with watch_operators(_fill_with_nan):
        yield


def forget(result: Result, inputs: Inputs) -> None:
    """Fill the tensors of a graded result with NaN, but for those that are ``inputs``.

    The next call to be graded, of another competitor, has the same result and may get the same memory.
    """
    kept = {tensor.untyped_storage().data_ptr() for tensor in inputs.everything().values()}
    for tensor in (result.y_TD, *result.gradients.values()):
        if type(tensor) is Tensor and tensor.untyped_storage().data_ptr() not in kept:
            forget_tensor(tensor)


def forget_tensor(tensor: Tensor) -> None:
    """Fill a tensor with NaN, if no two of its elements share memory."""
    if tensor.is_contiguous():
        _fill(tensor.detach())


def _fill_with_nan(function: Operator, _: object, __: object, result: Any) -> None:
    """Fill with NaN what an operator has allocated and left as it is."""
    if function.overloadpacket.__name__ in UNFILLED and result.is_floating_point():
        _fill(result)


def _fill(tensor: Tensor) -> None:
    if tensor.element_size() == 1:  # torch fills no float8
        tensor.view(torch.uint8).fill_(0x7F)
    else:
        tensor.fill_(torch.nan)
