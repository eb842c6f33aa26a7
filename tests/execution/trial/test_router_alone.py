"""The router alone: measured on the routes of the layer, checked, and wrong where a choice or a gate is."""

from __future__ import annotations

import pytest
import torch
from small_tasks import PROBLEM, task
from torch import Tensor

from moebench.execution.trial.reference_check import ReferenceCheck, Subject
from moebench.execution.trial.trial import TrialRunner
from moebench.kernels.catalog import KERNELS
from moebench.kernels.implementations import router_alone
from moebench.kernels.kernel import Kernel, Layer
from moebench.kernels.problem import Problem
from moebench.kernels.problem.draw_routes import check_seed, draw_routes, route
from moebench.kernels.problem.tensors import draw_weights
from moebench.results.record import Status

CPU = torch.device("cpu")
ROUTER = KERNELS.load("router_alone")
LAYER = PROBLEM.replace(E=8, router="softmax_topk", load="zipf:1")


def checked(problem: Problem) -> ReferenceCheck:
    solved = ROUTER.solves(problem)
    weights = draw_weights(solved, seed=0, device=CPU)
    return ReferenceCheck.draw(Subject(solved, ROUTER.question), weights, seed=check_seed(problem), device=CPU)


@pytest.mark.parametrize("load", ["zipf:1", "modalities:0.5", "text"])
def test_the_router_makes_the_routes_that_the_layer_is_measured_on(load: str) -> None:
    layer = LAYER.replace(load=load)
    check, routing = checked(layer), draw_routes(layer, seed=check_seed(layer), device=CPU)
    y_TD = check.expected.y_TD
    torch.testing.assert_close(y_TD[: LAYER.T, : LAYER.K] * LAYER.E, routing.ids_TK.double())
    torch.testing.assert_close(y_TD[: LAYER.T, LAYER.K :], routing.gates_TK.double())
    counts = y_TD[LAYER.T :].flatten()[: LAYER.E] * LAYER.T
    torch.testing.assert_close(counts, routing.counts_E().double())


@pytest.mark.parametrize("spec", ["softmax_topk", "softmax_topk_renorm", "sigmoid_topk:groups=4,top_groups=2"])
def test_a_trial_measures_it_beside_the_layer(spec: str, runner: TrialRunner) -> None:
    problem = LAYER.replace(router=spec)
    alone, layer = runner.run(task("router_alone", "scatter", problem=problem), lambda _: None)
    assert (alone.status, layer.status) == (Status.passed, Status.passed), (alone.reason, layer.reason)
    assert alone.balance == layer.balance
    assert alone.work is not None
    assert alone.work.useful_flops == alone.work.executed_flops == 0
    assert alone.work.ideal_bytes == problem.T * problem.E * 4 + problem.N * 8, "float32 logits, ids and gates"


@pytest.mark.parametrize("fault", ["swapped experts", "a gate", "a count"])
def test_a_wrong_choice_gate_or_count_is_no_number(
    fault: str, runner: TrialRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = router_alone._result

    def wrong(problem: Problem, x_TD: Tensor) -> Tensor:
        y_TD = right(problem, router_alone._routed(problem, x_TD, route)).clone()
        if fault == "swapped experts":
            y_TD[5, 0] += 1 / problem.E
        elif fault == "a gate":
            y_TD[5, problem.K] *= 1.01
        else:
            y_TD[problem.T, 0] += 1 / problem.T
        return y_TD

    def build(_: Kernel, problem: Problem, *__: object) -> Layer:
        return lambda x_TD, *_: wrong(problem, x_TD)

    monkeypatch.setattr(type(ROUTER), "build", build)
    (record,) = runner.run(task("router_alone", problem=LAYER), lambda _: None)
    assert record.status is Status.wrong
    assert "y is off" in record.reason


@pytest.mark.parametrize(("field", "value", "said"), [("mode", "train", "a forward only"), ("ranks", 2, "one rank")])
def test_what_it_cannot_be_measured_on_is_refused(field: str, value: object, said: str) -> None:
    assert said in str(ROUTER.refuses(LAYER.replace(**{field: value})))
