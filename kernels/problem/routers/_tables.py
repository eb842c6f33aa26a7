"""Tables of experts on the device where the tokens are, copied there once."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from ..texts.expert_tables import balanced_table, random_table


@lru_cache(maxsize=16)
def random_experts(experts: int, chosen: int, seed: int, device: torch.device) -> Tensor:
    """Return `expert_tables.random_table` as a tensor, int32 (V, K)."""
    return torch.tensor(random_table(experts, chosen, seed=seed), device=device)


@lru_cache(maxsize=16)
def balanced_experts(experts: int, chosen: int, device: torch.device) -> Tensor:
    """Return `expert_tables.balanced_table` as a tensor, int32 (V, K)."""
    return torch.tensor(balanced_table(experts, chosen), device=device)
