"""Accuracy: the distance of a result from the float64 reference, and the bounds that it must keep."""

from __future__ import annotations

import torch
from torch import Tensor

from ....kernels.oracle import OF_TOKENS, Result
from ....kernels.problem.tensors import is_of_layer
from ....results.record import Error

# Elements compared at a time: float64 copies of whole tensors would cost more than the call that is checked. They stay
# in a CPU's second-level cache; a GPU wants few launches.
COMPARED = {"cpu": 1 << 18, "cuda": 1 << 23}
# A value rounded to float8_e4m3fn is off by up to 2^-4 of it, evenly spread, so by 2^-4 / sqrt(3) in the mean square. A
# gated hidden row has the tokens' rounding in both halves and is rounded itself: 2^-4 by norm for the three together.
# In a row of few elements they may all be at their worst and add up.
BOUNDS = {"float32": 1e-5, "float16": 2e-3, "bfloat16": 1e-2, "float8_e4m3fn": 2**-4}
FLOAT8_ROW = 3
# A row of y in half precision is rounded up to six times: gate, its activation, the product with up, down, times the
# gate weight, and the sum. In bfloat16 each is 1.7e-3 by norm, and their squares add up: 4e-3. In a row of few elements
# all may be at their worst, 2^-8, and add up: 2.3e-2. Of 8192 correctly rounded rows of 8 to 256 elements the worst
# were off by 1.9 to 0.9 times the bound, by whichever implementation, the loop and the transformers peers included.
OUTPUT_ROW = 2.5
# A gradient's row may come from one or two tokens whose rounded factors nearly cancel. Of every implementation here,
# the transformers peers included, the worst rows of half-precision gradients were off by up to 3.6 times the bound.
ROUNDED_ROW = 4
# The gradients of an expert with few tokens are small beside those of the others, and lost without a trace in rows that
# are held to the typical row. Held to the expert's own, a lost gradient is off by 1.
EXPERT_ROOM = 8
EXPERT_FLOOR = 2**-10  # of the typical expert's norm: below it half-precision gradients round to nothing


def errors(result: Result, reference: Result, row_T: Tensor | None = None) -> dict[str, Error]:
    """Return the error of y and of every gradient of the reference, by name.

    ``row_T`` says which row of the reference's y is expected for each token, where tokens share rows.

    Raises:
        ValueError: when a tensor is missing, or its shape differs from that of the reference.
    """
    found = {"y": _error("y", result.y_TD, reference.y_TD, of_experts=False, row_T=row_T)}
    for name, expected in reference.gradients.items():
        if name not in result.gradients:
            raise ValueError(f"there is no gradient of {name}")
        of_experts = name not in OF_TOKENS and not is_of_layer(name)
        found[f"d{name}"] = _error(f"d{name}", result.gradients[name], expected, of_experts=of_experts)
    return found


def _error(name: str, out: Tensor, expected: Tensor, *, of_experts: bool, row_T: Tensor | None = None) -> Error:
    shape = (len(expected if row_T is None else row_T), *expected.shape[1:])
    if out.shape != shape:
        raise ValueError(f"{name} has shape {tuple(out.shape)}, expected {shape}")
    if out.numel() == 0:
        return Error(norm=0.0, worst_row=0.0)
    mine, true = out.flatten(end_dim=-2), expected.flatten(end_dim=-2)
    wrong, right = _square_distances(mine, true, row_T), torch.linalg.vector_norm(true, dim=1).square()
    right = right if row_T is None else right[row_T]
    # A row smaller than the typical one is held to the typical one: rounding errors do not shrink with cancellation.
    typical = torch.maximum(right, right.mean())
    worst_expert = 0.0
    if of_experts:
        wrong_E, right_E = (rows.view(len(expected), -1).sum(1) for rows in (wrong, right))
        worst_expert = _distance(wrong_E, torch.maximum(right_E, EXPERT_FLOOR**2 * right_E.mean()))
    return Error(
        norm=_distance(wrong.sum(), right.sum()), worst_row=_distance(wrong, typical), worst_expert=worst_expert
    )


def _square_distances(mine: Tensor, true: Tensor, row_T: Tensor | None) -> Tensor:
    """Return the square of the distance of each row from the true one, in float64; see `errors` for ``row_T``."""
    size = min(max(COMPARED[true.device.type] // mine.shape[1], 1), len(mine))
    room, found = true.new_empty(size, mine.shape[1]), true.new_empty(len(mine))
    for first in range(0, len(mine), size):
        part = slice(first, first + size)
        rows = mine[part]
        off = room[: len(rows)]
        if row_T is None:
            off.copy_(true[part])
        else:
            torch.index_select(true, 0, row_T[part], out=off)
        found[part] = off.sub_(rows).square_().sum(1)
    return found


def _distance(wrong: Tensor, right: Tensor) -> float:
    """Return the largest sqrt(wrong / right). 0 / 0 is no error; any other NaN is an infinite one."""
    ratio = torch.where((wrong == 0) & (right == 0), 0.0, wrong / right)
    return float(ratio.nan_to_num(torch.inf, torch.inf).max().sqrt())


def verdict(found: dict[str, Error], dtype: str) -> str | None:
    """Return None when every error is within its bound, else a sentence on the first that is not. NaN never passes."""
    bound = BOUNDS[dtype]
    for name, error in found.items():
        row_bound = bound * _room(name, dtype)
        kinds = (
            ("norm", error.norm, bound),
            ("worst row", error.worst_row, row_bound),
            ("worst expert", error.worst_expert, EXPERT_ROOM * bound),
        )
        for kind, value, limit in kinds:
            if not value <= limit:
                return f"{name} is off by {value:.2e} ({kind}), the bound for {dtype} is {limit:g}"
    return None


def rounding_bound(dtype: str) -> float:
    """Return the distance up to which rows of two right outputs may differ: each may be off by the bound of a row."""
    return 2 * BOUNDS[dtype] * _room("y", dtype)


def _room(name: str, dtype: str) -> float:
    """Return the factor by which the worst row may exceed the bound."""
    if dtype == "float8_e4m3fn":
        return FLOAT8_ROW
    if dtype == "float32":
        return 1
    return OUTPUT_ROW if name == "y" else ROUNDED_ROW


def worst(one: dict[str, Error], other: dict[str, Error]) -> dict[str, Error]:
    """Return the larger of the errors of two checks, name by name."""
    return {
        name: Error(
            **{figure: max(getattr(error, figure), getattr(other[name], figure)) for figure in Error.model_fields}
        )
        for name, error in one.items()
    }
