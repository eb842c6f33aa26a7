"""Layers built for a call: one for every problem, shared by all modules and operators."""

from __future__ import annotations

import logging
from functools import lru_cache

import torch

from ..catalog import KERNELS
from ..kernel import Layer, SplitLayer
from ..problem import Mode, Problem
from ..tuned.every_batch import choose_for_every_batch
from ..tuned.select import AUTO, Choice, choose

_log = logging.getLogger(__name__)

BUILDS = 256  # prompts differ in length, and each length needs another build; a build holds no tensors


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
    """Build a layer for ``problem`` with so many tokens, chosen by `choose`, which keeps nothing of a call.

    ``load`` is the one to choose by, with tables of the most similar one; None is uniform.

    Raises:
        ValueError: when no kernel can run it.
    """
    problem = problem.replace(T=T, K=K, load=load or problem.load, mode=mode, dtype=dtype_name(dtype))
    if batch_invariant:
        chosen = choose_for_every_batch(problem, device, dispatch)
    else:
        chosen = choose(problem, device, dispatch, nearest=load is not None)
    _tell(problem, device, chosen)
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
    chosen = choose_for_every_batch(problem, device, named) if batch_invariant else None
    if chosen is None or not chosen.kernel.splits:
        chosen = choose(problem, device, named, only=lambda kernel: kernel.splits)
    _tell(problem, device, chosen)
    return chosen.kernel.build_split(problem, chosen.config, device)


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def splits(dispatch: str) -> bool:
    """Return whether a training step in a graph can run both passes by one kernel."""
    return dispatch == AUTO or KERNELS.load(dispatch).splits


def dtype_name(dtype: torch.dtype) -> str:
    """Return the name that `Problem.dtype` has for it."""
    return str(dtype).removeprefix("torch.")


def _tell(problem: Problem, device: torch.device, chosen: Choice) -> None:
    _log.info("%s on %s: %s, %s", problem.key, device, chosen.kernel.name, chosen.why)
