"""Tables of experts on the device where the tokens are, copied there once, and their look-up."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from ..texts.expert_tables import balanced_table, random_table


def random_experts(token_T: Tensor, experts: int, chosen: int, *, seed: int) -> Tensor:
    """Return the experts, int32 (T, K), that `expert_tables.random_table` has for ids of tokens.

    Ids are taken modulo the number of those in the table, so that it serves every vocabulary.
    """
    return _looked_up(_random(experts, chosen, seed, token_T.device), token_T)


def balanced_experts(token_T: Tensor, experts: int, chosen: int) -> Tensor:
    """Return the experts, int32 (T, K), that `expert_tables.balanced_table` has, as `random_experts` does."""
    return _looked_up(_balanced(experts, chosen, token_T.device), token_T)


def _looked_up(table_VK: Tensor, token_T: Tensor) -> Tensor:
    return table_VK[token_T.long() % len(table_VK)]


@lru_cache(maxsize=16)
def _random(experts: int, chosen: int, seed: int, device: torch.device) -> Tensor:
    return torch.tensor(random_table(experts, chosen, seed=seed), device=device)


@lru_cache(maxsize=16)
def _balanced(experts: int, chosen: int, device: torch.device) -> Tensor:
    return torch.tensor(balanced_table(experts, chosen), device=device)
