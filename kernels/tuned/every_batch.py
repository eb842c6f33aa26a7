"""Choice of one kernel and configuration for every number of tokens, so that a token's bits do not depend on it."""

from __future__ import annotations

import math
from typing import Final

import torch

from ..catalog import KERNELS
from ..config import Config
from ..kernel import Kernel
from ..problem import Problem
from .lookup import Found, look_up_every_batch, stale_wanted
from .select import AUTO, Choice, candidates

ROWS: Final = 128
"""Rows of an expert whose default runs where no table decides: the height of the highest tiles.

By the static model of an H100 it costs nothing where experts have as many rows or more, and where they have few at most
39 %; a tile for few rows takes up to five times as long where there are many. docs/performance.md has the table.
"""


def choose_for_every_batch(problem: Problem, device: torch.device, dispatch: str = AUTO) -> Choice:
    """Return a kernel and a configuration that guarantee a token's bits in every batch, whatever ``problem.T``.

    Both are the same for every number of tokens and for both modes. Where a tuned table has the shape, it is the
    configuration that loses least to the fastest at the batch sizes where it loses most. Among several kernels the
    order of `Kernel.preference` decides.

    Raises:
        UnknownName: when no kernel has that name.
        ValueError: for a problem with a capacity, and when no kernel guarantees it, with the reason of each.
    """
    if problem.capacity_factor is not None:
        raise ValueError(
            f"capacity_factor = {problem.capacity_factor:g}: who is dropped depends on the other tokens of a batch; "
            "give None for results that are the same in every batch"
        )
    usual = problem.replace(T=math.ceil(ROWS * problem.E / problem.K), mode="forward", load="uniform")
    reasons = []
    for name in candidates(device) if dispatch == AUTO else (dispatch,):
        kernel = KERNELS.load(name)
        reason = kernel.supports(problem, device) or kernel.supports(usual, device)
        if reason is None:
            if choice := _choice(kernel, usual, device):
                return choice
            reason = "guarantees no bits of a token in other batches"
        reasons.append(f"{name}: {reason}")
    raise ValueError(
        f"no kernel on {device} guarantees the same bits in every batch; {'; '.join(reasons)}; use batch_invariant = "
        "False, or a GPU, on which the Triton kernels do"
    )


def _choice(kernel: Kernel, usual: Problem, device: torch.device) -> Choice | None:
    """Return the configuration of a kernel that holds the guarantee and can be built for both modes."""
    modes = [usual] if usual.quantised else [usual, usual.replace(mode="train")]
    space = kernel.space(usual, device)

    def usable(config: Config) -> bool:
        guarantee = kernel.guarantee(usual, config)
        return guarantee.of_every_batch and all(kernel.valid(one, config, device) for one in modes)

    def own(config: Config) -> Config | None:
        return next((mine for mine in space if mine == config and usable(mine)), None)

    found = look_up_every_batch(usual, kernel.name, device, own, stale=stale_wanted())
    if isinstance(found, Found):
        return Choice(kernel, found.config, f"the same for every number of tokens: {found.why}")
    default = next(filter(usable, space), None)
    why = f"the same for every number of tokens: the default for {ROWS} rows per expert; {found.reason}"
    return Choice(kernel, default, why) if default is not None else None
