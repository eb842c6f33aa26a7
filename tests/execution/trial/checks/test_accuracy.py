"""Tests of the distance from the reference, and of the bound beyond which a result is wrong."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from moebench.execution.trial.checks.accuracy import BOUNDS, errors, verdict, worst
from moebench.execution.trial.reference_check import call
from moebench.kernels.catalog import KERNELS
from moebench.kernels.oracle import Result, reference
from moebench.kernels.problem import Problem
from moebench.kernels.problem.routing import NO_ROUTE
from moebench.kernels.problem.tensors import draw_inputs, draw_weights
from moebench.results.record import Error

CPU = torch.device("cpu")


def distance(out: Tensor, expected: Tensor) -> Error:
    return errors(Result(y_TD=out, gradients={}), Result(y_TD=expected.double(), gradients={}))["y"]


def test_relative_norm_and_worst_row_are_the_definitions() -> None:
    expected = torch.tensor([[3.0, 4.0], [30.0, 40.0]])
    out = expected + torch.tensor([[0.0, 0.5], [0.0, 0.0]])
    typical = math.sqrt((25 + 2500) / 2)
    assert distance(out, expected).norm == pytest.approx(0.5 / math.sqrt(2525))
    assert distance(out, expected).worst_row == pytest.approx(0.5 / typical)


def test_one_wrong_row_among_many_is_found_by_the_worst_row_alone() -> None:
    expected = torch.ones(4096, 8)
    out = expected.clone()
    out[1234] *= 1 + 5e-5
    found = distance(out, expected)
    assert found.norm < BOUNDS["float32"] < found.worst_row
    assert "worst row" in str(verdict({"y": found}, "float32"))


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("dtype", BOUNDS)
def test_what_is_not_a_number_never_passes(bad: float, dtype: str) -> None:
    out = torch.ones(3, 4)
    out[1, 2] = bad
    assert verdict({"y": distance(out, torch.ones(3, 4))}, dtype)


def test_zeros_must_be_exact_zeros() -> None:
    zeros = torch.zeros(3, 4)
    assert verdict({"y": distance(zeros, zeros)}, "float32") is None
    assert verdict({"y": distance(zeros + 1e-30, zeros)}, "bfloat16")


def test_nothing_is_right_when_nothing_is_asked() -> None:
    assert distance(torch.zeros(0, 4), torch.zeros(0, 4)) == Error(norm=0.0, worst_row=0.0)


def test_a_missing_gradient_and_a_wrong_shape_are_errors() -> None:
    expected = Result(y_TD=torch.ones(2, 3).double(), gradients={"gates": torch.ones(2, 1).double()})
    with pytest.raises(ValueError, match="no gradient of gates"):
        errors(Result(y_TD=torch.ones(2, 3), gradients={}), expected)
    with pytest.raises(ValueError, match=r"y has shape \(3, 2\), expected \(2, 3\)"):
        errors(Result(y_TD=torch.ones(3, 2), gradients={}), expected)


@given(scale=st.floats(1e-6, 1e6), error=st.floats(1e-7, 1e-1), rows=st.integers(1, 1200))
def test_the_bound_does_not_depend_on_scale_or_size(scale: float, error: float, rows: int) -> None:
    expected = torch.full((rows, 4), scale, dtype=torch.float64)
    found = distance(expected * (1 + error), expected)
    assert found.norm == pytest.approx(error, rel=1e-6)
    assert found.worst_row == pytest.approx(error, rel=1e-6)
    assert (verdict({"y": found}, "bfloat16") is None) == (found.norm <= BOUNDS["bfloat16"])


def test_the_worse_of_two_checks_is_kept() -> None:
    one, other = {"y": Error(norm=1.0, worst_row=2.0)}, {"y": Error(norm=0.5, worst_row=3.0)}
    assert worst(one, other) == {"y": Error(norm=1.0, worst_row=3.0)}


def test_only_rows_of_half_precision_gradients_get_room_for_cancellation() -> None:
    row = {"norm": 0.0, "worst_row": 3 * BOUNDS["bfloat16"]}
    assert verdict({"dw_up": Error(**row)}, "bfloat16") is None
    assert verdict({"y": Error(**row)}, "bfloat16")
    assert verdict({"dw_up": Error(norm=0.0, worst_row=3 * BOUNDS["float32"])}, "float32")
    assert verdict({"dw_up": Error(norm=0.0, worst_row=5 * BOUNDS["bfloat16"])}, "bfloat16")


@pytest.mark.parametrize("name", ["loop", "grouped"])
def test_narrow_rows_that_are_rounded_correctly_are_right(name: str) -> None:
    """By whichever implementation, the worst of thousands of rows of 8 elements is beyond the bound of the norm."""
    problem = Problem(T=4096, D=8, F=8, E=4, K=2, dtype="bfloat16")
    inputs = draw_inputs(problem, draw_weights(problem, seed=0, device=CPU), seed=100, device=CPU)
    kernel = KERNELS.load(name)
    found = errors(
        call(problem, kernel.build(problem, kernel.space(problem, CPU)[0], CPU), inputs), reference(problem, inputs)
    )
    assert found["y"].norm < BOUNDS["bfloat16"] < found["y"].worst_row
    assert verdict(found, "bfloat16") is None


def test_a_route_that_one_row_loses_is_wrong_in_bfloat16() -> None:
    problem = Problem(T=512, D=64, F=64, E=16, K=8)
    inputs = draw_inputs(problem, draw_weights(problem, seed=0, device=CPU), seed=100, device=CPU)
    right = reference(problem, inputs)
    inputs.routing.ids_TK[7, 3] = NO_ROUTE
    lost = errors(reference(problem, inputs), right)
    assert lost["y"].norm < BOUNDS["bfloat16"]
    assert "worst row" in str(verdict(lost, "bfloat16"))


def test_rows_of_float8_get_room_for_three_roundings_and_the_norm_for_one() -> None:
    assert verdict({"y": Error(norm=0.06, worst_row=0.18)}, "float8_e4m3fn") is None
    assert "norm" in str(verdict({"y": Error(norm=0.07, worst_row=0.07)}, "float8_e4m3fn"))
    assert "worst row" in str(verdict({"y": Error(norm=0.06, worst_row=0.19)}, "float8_e4m3fn"))
