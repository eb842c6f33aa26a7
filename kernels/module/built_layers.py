"""Layers built for a call: one for every problem, shared by all modules and operators."""

from __future__ import annotations

import logging
from functools import lru_cache
from typing import Final

import torch

from ..catalog import KERNELS
from ..kernel import Kernel, Layer, SplitLayer
from ..problem import Mode, Problem
from ..tuned.every_batch import choose_for_every_batch
from ..tuned.lookup import tuned_tokens
from ..tuned.select import AUTO, Choice, choose

_log = logging.getLogger(__name__)

BUILDS: Final = 256  # prompts differ in length, and each length needs another build; a build holds no tensors


@lru_cache(maxsize=BUILDS)
def built(
    problem: Problem,
    T: int,
    K: int,
    load: str | None,
    mode: Mode,
    dtype: torch.dtype,
    device: torch.device,
    dispatch: str,
    batch_invariant: bool,
) -> Layer:
    """Build a layer for ``problem`` with so many tokens, which keeps nothing of a call.

    Kernel and configuration are those that are chosen for about as many tokens (`rounded_up`). ``load`` is the one to
    choose by, with tables of the most similar one; None is uniform.

    Raises:
        ValueError: when no kernel can run it.
    """
    problem = problem.replace(T=T, K=K, load=load or problem.load, mode=mode, dtype=dtype_name(dtype))
    chosen = _choice(problem, device, dispatch, batch_invariant=batch_invariant, nearest=load is not None)
    return chosen.build(problem, device)


@lru_cache(maxsize=BUILDS)
def built_split(
    problem: Problem, T: int, K: int, dtype: torch.dtype, device: torch.device, dispatch: str, batch_invariant: bool
) -> SplitLayer:
    """Build a layer whose passes can be called apart: of the named kernel if it can be split, else of one that can.

    It drops no route: a capacity is for the caller to apply.

    Raises:
        ValueError: when no such kernel can run it.
    """
    problem = problem.replace(T=T, K=K, mode="train", dtype=dtype_name(dtype), capacity_factor=None)
    named = dispatch if splits(dispatch) else AUTO
    chosen = _choice(problem, device, named, batch_invariant=batch_invariant, only_split=True)
    return chosen.kernel.build_split(problem, chosen.config, device)


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def splits(dispatch: str) -> bool:
    """Return whether a training step in a graph can run both passes by one kernel."""
    return dispatch == AUTO or KERNELS.load(dispatch).splits


def dtype_name(dtype: torch.dtype) -> str:
    """Return the name that `Problem.dtype` has for it."""
    return str(dtype).removeprefix("torch.")


def forget() -> None:
    """Forget every build and choice, so that tables which have changed since are read."""
    for cache in (built, built_split, _chosen):
        cache.cache_clear()


def rounded_up(T: int) -> int:
    """Return the next number of tokens with two binary digits after the first: at most a quarter more."""
    step = 1 << max(0, T.bit_length() - 3)
    return -(-T // step) * step


def _choice(
    problem: Problem,
    device: torch.device,
    dispatch: str,
    *,
    batch_invariant: bool,
    nearest: bool = False,
    only_split: bool = False,
) -> Choice:
    """Return the choice for about as many tokens, which takes tens of milliseconds, if it can run just as many.

    That is a number that a table was measured with, where one is as near: a table may end there.
    """
    how = (device, dispatch, batch_invariant, nearest, only_split)
    most = rounded_up(problem.T)
    T = min((one for one in tuned_tokens(device) if problem.T <= one < most), default=most)
    chosen = _chosen(problem.replace(T=T), *how)
    kernel = chosen.kernel
    if kernel.supports(problem, device) is None and kernel.valid(problem, chosen.config, device):
        return chosen
    return _chosen(problem, *how)


@lru_cache(maxsize=BUILDS)
def _chosen(
    problem: Problem, device: torch.device, dispatch: str, batch_invariant: bool, nearest: bool, only_split: bool
) -> Choice:
    chosen = choose_for_every_batch(problem, device, dispatch) if batch_invariant else None
    if chosen is None or (only_split and not chosen.kernel.splits):
        chosen = choose(problem, device, dispatch, nearest=nearest, only=_splits if only_split else _any)
    _log.info("%s on %s: %s, %s", problem.key, device, chosen.kernel.name, chosen.why)
    return chosen


def _any(_: Kernel) -> bool:
    return True


def _splits(kernel: Kernel) -> bool:
    return kernel.splits
