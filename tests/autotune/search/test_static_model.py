"""Predictions are the sum of their parts, equal alone and in a list, and cheap enough to rank a whole space."""

from __future__ import annotations

import time

import pytest
import torch

from moebench.autotune.search.static_model import estimate, predict, rates, rates_of_target
from moebench.common.names import UnknownName
from moebench.kernels.catalog import KERNELS
from moebench.kernels.hardware.device_limits import assuming
from moebench.kernels.hardware.gpus import HARDWARE
from moebench.kernels.problem import Problem
from moebench.kernels.problem.models import model
from moebench.kernels.problem.routing import Routing
from moebench.results.record import Roofline

META = torch.device("meta")
H100 = rates_of_target("sm_90", "bfloat16")


def routed(problem: Problem) -> Routing:
    generator = torch.Generator().manual_seed(0)
    ids = torch.rand(problem.T, problem.E, generator=generator).topk(problem.K, dim=1).indices
    return Routing(ids_TK=ids.int(), gates_TK=torch.ones(problem.T, problem.K), experts=problem.E)


def test_an_estimate_is_the_sum_of_its_parts_and_what_is_predicted() -> None:
    problem = model("Mixtral-8x7B").problem(T=512, dtype="bfloat16")
    kernel, routing = KERNELS.load("triton_scatter"), routed(problem)
    with assuming(HARDWARE["sm_90"]):
        configs = kernel.space(problem, META)[:3]
        predicted = predict(kernel, problem, configs, routing, H100, META)
        found = [estimate(kernel, problem, config, routing, H100, META) for config in configs]
    assert predicted is not None
    for config, seconds, one in zip(configs, predicted, found, strict=True):
        assert one is not None
        assert one.config == config
        copies = [] if config["gathered"] else ["dispatch"]
        assert [part.name for part in one.parts] == ["order", *copies, "up", "down", "combine"]
        assert one.seconds == sum(part.seconds for part in one.parts) == seconds


def test_a_kernel_that_tells_no_steps_has_no_prediction() -> None:
    problem = Problem(T=8, D=16, F=16, E=2, K=1)
    kernel, routing = KERNELS.load("dense"), routed(problem)
    assert estimate(kernel, problem, {}, routing, H100, torch.device("cpu")) is None
    assert predict(kernel, problem, [{}], routing, H100, torch.device("cpu")) is None


@pytest.mark.parametrize("mode", ["forward", "train"])
def test_a_prediction_takes_less_time_than_twenty_thousand_additions_in_python(mode: str) -> None:
    """Use many experts; processors differ in speed and other processes run too, so take the fastest of turns."""
    problem = model("Qwen3-30B-A3B").problem(T=4096, dtype="bfloat16", mode=mode)
    kernel, routing = KERNELS.load("triton_scatter"), routed(problem)
    predictions, additions, total = [], [], 0
    with assuming(HARDWARE["sm_90"]):
        configs = kernel.space(problem, META)[:100]
        for _ in range(5):
            start = time.perf_counter()
            predict(kernel, problem, configs, routing, H100, META)
            middle = time.perf_counter()
            for number in range(100_000):
                total += number
            predictions.append((middle - start) / len(configs))
            additions.append((time.perf_counter() - middle) / 5)
    assert min(predictions) < min(additions)


def test_rates_are_those_measured_or_a_share_of_the_data_sheet() -> None:
    measured = rates(Roofline(flops_per_s=2e11, bytes_per_s=8e10), "cpu")
    assert (measured.flops_per_s, measured.bytes_per_s) == (2e11, 8e10)
    assert 0 < measured.call_s < 1e-4
    assert H100.flops_per_s < 989e12 < 2 * H100.flops_per_s
    assert rates_of_target("sm_90", "float32").flops_per_s < H100.flops_per_s
    for target in HARDWARE:
        assert rates_of_target(target, "float16") == rates_of_target(target, "bfloat16")


def test_a_wrong_target_or_dtype_is_told_with_the_nearest() -> None:
    with pytest.raises(UnknownName, match="did you mean sm_90"):
        rates_of_target("sm_91", "bfloat16")
    with pytest.raises(UnknownName, match="did you mean bfloat16"):
        rates_of_target("sm_90", "bfloat61")
