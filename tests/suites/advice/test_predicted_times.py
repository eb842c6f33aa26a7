"""Predicted times: of which kernels, on which devices, and that they are those of the static model."""

from __future__ import annotations

import pytest
from advised import ELSEWHERE, PROBLEM

from moebench.autotune.search.static_model import rates_of_target
from moebench.kernels.problem import InvalidProblem, Problem
from moebench.results.record.advice import AdviceSource
from moebench.suites.advice import predicted_times as module
from moebench.suites.advice.advised_device import advised_device
from moebench.suites.advice.predicted_times import predicted_times

LAYER = Problem(T=64, D=2048, F=768, E=128, K=8, dtype="bfloat16")


def names(problem: Problem, device: str) -> dict[str, float]:
    found = predicted_times(problem, advised_device(device, ()))
    assert all(one.source is AdviceSource.predicted and "not measured" in one.basis for one in found.dispatches)
    return {one.kernel: one.seconds for one in found.dispatches}


def test_on_this_cpu_the_kernels_that_auto_may_choose_are_predicted() -> None:
    found = names(PROBLEM.replace(T=64), "cpu")
    assert {"loop", "grouped", "scatter", "padded", "block_sparse", "gshard_einsum"} == set(found)
    assert all(seconds > 0 for seconds in found.values())


def test_on_a_gpu_the_triton_kernels_are_predicted_by_its_data_sheet() -> None:
    h100, h200 = names(LAYER, "H100"), names(LAYER, "H200")
    assert set(h100) == {"triton_scatter", "triton_block_sparse"}
    # At 64 tokens the weights of all experts pass memory once, which is 4.8 / 3.35 times as fast on an H200.
    assert 1.2 < h100["triton_scatter"] / h200["triton_scatter"] < 4.8 / 3.35
    assert h100["triton_scatter"] > LAYER.weight_bytes / rates_of_target("sm_90", "bfloat16").bytes_per_s
    with_capacity = names(LAYER.replace(capacity_factor=1.25), "sm_90")
    assert "triton_padded" in with_capacity


def test_a_quantised_layer_needs_a_gpu_that_multiplies_it() -> None:
    quantised = LAYER.replace(dtype="float8_e4m3fn")
    assert names(quantised, "H100")
    assert names(quantised, "A100") == {}
    left_out = predicted_times(quantised, advised_device("A100", ())).left_out
    assert any("the device has no such products" in reason for reason in left_out)


def test_skew_makes_padding_slower_but_not_scattering() -> None:
    even, skewed = (names(PROBLEM.replace(T=4096, load=load), "cpu") for load in ("uniform", "hot"))
    assert skewed["padded"] > 1.5 * even["padded"]
    assert skewed["scatter"] < 1.5 * even["scatter"]


def test_there_are_no_predictions_for_another_cpu_or_an_unknown_gpu() -> None:
    found = predicted_times(PROBLEM, ELSEWHERE)
    assert (found.dispatches, found.left_out) == (
        [],
        ["the static model of a CPU is for the machine that it runs on"],
    )


def test_routes_that_do_not_fit_into_memory_are_refused_not_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    here = advised_device("cpu", ())
    monkeypatch.setattr(module, "available_bytes", lambda _: 2**20)
    predicted_times(PROBLEM.replace(T=10**6), here)  # rows that are expected are not drawn
    with pytest.raises(InvalidProblem, match=r"drawing the routes needs about .* give fewer tokens"):
        predicted_times(PROBLEM.replace(T=10**6, load="text"), here)


def test_tokens_of_any_number_are_predicted() -> None:
    assert names(LAYER.replace(T=10**15), "H100")
    assert names(LAYER.replace(T=1), "H100")


@pytest.mark.parametrize("device", ["cpu", "H100"])
@pytest.mark.parametrize("load", ["uniform", "zipf:1.2"])
def test_a_layer_too_large_for_the_model_has_no_prediction_and_is_said_at_once(device: str, load: str) -> None:
    found = predicted_times(PROBLEM.replace(E=10**12, load=load), advised_device(device, ()))
    assert not found.dispatches
    assert found.left_out == ["E = 1000000000000 times K = 2 is too large for the static model, which takes 262144"]
