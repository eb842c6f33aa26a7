"""Correct before timed: the distance of a result from the float64 reference, and when it is too far."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..kernels.oracle import Result
from ..results.record import Error

BOUNDS = {"float32": 1e-5, "float16": 2e-3, "bfloat16": 1e-2}


def errors(result: Result, reference: Result) -> dict[str, Error]:
    """Error of y and of every gradient of the reference, by name.

    Raises:
        ValueError: when a tensor is missing or has another shape than the reference's.
    """
    found = {"y": _error("y", result.y_TD, reference.y_TD)}
    for name, expected in reference.gradients.items():
        if name not in result.gradients:
            raise ValueError(f"there is no gradient of {name}")
        found[f"d{name}"] = _error(f"d{name}", result.gradients[name], expected)
    return found


def _error(name: str, out: Tensor, expected: Tensor) -> Error:
    if out.shape != expected.shape:
        raise ValueError(f"{name} has shape {tuple(out.shape)}, expected {tuple(expected.shape)}")
    if expected.numel() == 0:
        return Error(norm=0.0, worst_row=0.0)
    difference = (out.double() - expected).flatten(end_dim=-2)
    rows = expected.flatten(end_dim=-2).norm(dim=1)
    # A row smaller than the typical one is held to the typical one: rounding errors do not shrink with cancellation.
    typical = rows.square().mean().sqrt()
    worst = (difference.norm(dim=1) / torch.maximum(rows, typical)).nan_to_num(_where_zero(difference), torch.inf).max()
    norm = difference.norm() / expected.norm()
    return Error(norm=float(norm.nan_to_num(_where_zero(difference), torch.inf)), worst_row=float(worst))


def _where_zero(difference: Tensor) -> float:
    """0 / 0 is no error where zeros were expected and given; any other NaN is as wrong as can be."""
    return 0.0 if bool((difference == 0).all()) else math.inf


def verdict(found: dict[str, Error], dtype: str) -> str | None:
    """None when every error is within the dtype's bound, else the first that is not, in words. NaN never passes."""
    bound = BOUNDS[dtype]
    for name, error in found.items():
        for kind, value in (("norm", error.norm), ("worst row", error.worst_row)):
            if not value <= bound:
                return f"{name} is off by {value:.2e} ({kind}), the bound for {dtype} is {bound:g}"
    return None


def worst(one: dict[str, Error], other: dict[str, Error]) -> dict[str, Error]:
    """The larger of two checks' errors, name by name."""
    return {
        name: Error(norm=max(error.norm, other[name].norm), worst_row=max(error.worst_row, other[name].worst_row))
        for name, error in one.items()
    }
