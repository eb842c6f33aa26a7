"""Memory without a value holds NaN."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from moebench.execution.trial.checks.poison import poisoned_memory

LIKE = torch.zeros(3, 4)
MAKES: dict[str, Callable[[], Tensor]] = {
    "empty": lambda: torch.empty(3, 4),
    "empty_like": lambda: torch.empty_like(LIKE),
    "new_empty": lambda: LIKE.new_empty(3, 4),
    "empty_strided": lambda: torch.empty_strided((3, 4), (1, 3)),
    "bfloat16": lambda: torch.empty(3, 4, dtype=torch.bfloat16),
    "float8": lambda: torch.empty(3, 4, dtype=torch.float8_e4m3fn),
}


@pytest.mark.parametrize("make", MAKES)
def test_what_is_allocated_without_a_value_is_nan(make: str) -> None:
    with poisoned_memory(LIKE):
        made = MAKES[make]()
    assert bool(made.float().isnan().all())


def test_what_has_a_value_keeps_it() -> None:
    with poisoned_memory(LIKE):
        made = torch.zeros(3), torch.arange(3.0), LIKE.clone(), torch.empty(2, dtype=torch.int32).fill_(3)
    assert [tensor.sum().item() for tensor in made] == [0.0, 3.0, 0.0, 6.0]
