"""The oracle is right: by hand, by finite differences, against a dense layer; and `reference` is the same function."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from moebench.kernels import oracle as module
from moebench.kernels.oracle import ROWS, Result, drop, oracle, reference, reference_bytes
from moebench.kernels.problem import Activation, Problem
from moebench.kernels.problem.routing import NO_ROUTE, Routing
from moebench.kernels.problem.shard import Shard
from moebench.kernels.problem.tensors import Inputs, Weights, draw_inputs, draw_weights
from moebench.results.timing.memory import peak

CPU = torch.device("cpu")
EVALUATORS: list[Callable[[Problem, Inputs], Result]] = [oracle, reference]
both = pytest.mark.parametrize("evaluate", EVALUATORS)


def draw(problem: Problem, seed: int = 0) -> Inputs:
    return draw_inputs(problem, draw_weights(problem, seed=seed, device=CPU), seed=seed + 1, device=CPU)


def with_ids(inputs: Inputs, ids: list[list[int]]) -> Inputs:
    ids_TK = torch.tensor(ids, dtype=torch.int32).view_as(inputs.routing.ids_TK)
    return dataclasses.replace(inputs, routing=dataclasses.replace(inputs.routing, ids_TK=ids_TK))


def assert_same(one: Result, other: Result) -> None:
    torch.testing.assert_close(one.y_TD, other.y_TD, rtol=1e-12, atol=1e-12)
    assert list(one.gradients) == list(other.gradients)
    for name, gradient in one.gradients.items():
        torch.testing.assert_close(gradient, other.gradients[name], rtol=1e-12, atol=1e-12)


@st.composite
def cases(draw_: st.DrawFn) -> tuple[Problem, Inputs]:
    """Draw any small problem with any routes: missing ones, the same expert twice in a row, no tokens at all."""
    E = draw_(st.integers(1, 5))
    K = draw_(st.integers(1, E))
    problem = Problem(
        T=draw_(st.integers(0, 6)),
        D=draw_(st.integers(1, 5)),
        F=draw_(st.integers(1, 5)),
        E=E,
        K=K,
        gated=draw_(st.booleans()),
        activation=draw_(st.sampled_from(["silu", "gelu", "relu"])),
        capacity_factor=draw_(st.sampled_from([None, 0.3, 1.0])),
        drop=draw_(st.sampled_from(["first_come", "first_choices", "gate_weight"])),
        mode=draw_(st.sampled_from(["forward", "train"])),
        ranks=draw_(st.integers(1, E)),
        bias=draw_(st.booleans()),
    )
    row = st.lists(st.integers(NO_ROUTE, E - 1), min_size=K, max_size=K)
    ids = draw_(st.lists(row, min_size=problem.T, max_size=problem.T))
    return problem, with_ids(draw(problem, seed=draw_(st.integers(0, 1000))), ids)


@given(case=cases())
def test_oracle_and_reference_are_the_same_function(case: tuple[Problem, Inputs]) -> None:
    problem, inputs = case
    truth = oracle(problem, inputs)
    assert list(truth.gradients) == ([] if problem.mode == "forward" else list(inputs.differentiable()))
    assert all(tensor.dtype == torch.float64 for tensor in (truth.y_TD, *truth.gradients.values()))
    assert_same(truth, reference(problem, inputs))


@given(case=cases())
def test_dropped_routes_count_as_missing_ones(case: tuple[Problem, Inputs]) -> None:
    problem, inputs = case
    kept = dataclasses.replace(inputs, routing=drop(problem, inputs.routing))
    result = oracle(problem, inputs)
    assert_same(result, oracle(problem.replace(capacity_factor=None), kept))
    if problem.mode == "train":
        assert not result.gradients["gates"][kept.routing.ids_TK == NO_ROUTE].any()


@both
def test_one_route_matches_a_calculation_by_hand(evaluate: Callable[[Problem, Inputs], Result]) -> None:
    problem = Problem(T=1, D=1, F=1, E=2, K=1, gated=False, activation="relu", mode="train")
    inputs = Inputs(
        x_TD=torch.tensor([[2.0]]),
        routing=Routing(ids_TK=torch.tensor([[1]], dtype=torch.int32), gates_TK=torch.tensor([[0.25]]), experts=2),
        weights=Weights(
            w_up_EUD=torch.tensor([7.0, 3.0]).view(2, 1, 1), w_down_EDF=torch.tensor([9.0, 0.5]).view(2, 1, 1)
        ),
        dy_TD=torch.tensor([[10.0]]),
    )
    result = evaluate(problem, inputs)
    assert result.y_TD.tolist() == [[0.25 * 0.5 * 6]]
    assert {name: gradient.flatten().tolist() for name, gradient in result.gradients.items()} == {
        "x": [10 * 0.25 * 0.5 * 3],
        "w_up": [0, 10 * 0.25 * 0.5 * 2],
        "w_down": [0, 10 * 0.25 * 6],
        "gates": [10 * 0.5 * 6],
    }
    biased = dataclasses.replace(
        inputs,
        weights=dataclasses.replace(
            inputs.weights, b_up_EU=torch.tensor([[5.0], [-2.0]]), b_down_ED=torch.tensor([[1.0], [8.0]])
        ),
    )
    result = evaluate(problem.replace(bias=True), biased)
    assert result.y_TD.tolist() == [[0.25 * (0.5 * 4 + 8)]]
    assert {name: gradient.flatten().tolist() for name, gradient in result.gradients.items()} == {
        "x": [10 * 0.25 * 0.5 * 3],
        "w_up": [0, 10 * 0.25 * 0.5 * 2],
        "w_down": [0, 10 * 0.25 * 4],
        "b_up": [0, 10 * 0.25 * 0.5],
        "b_down": [0, 10 * 0.25],
        "gates": [10 * (0.5 * 4 + 8)],
    }


@both
def test_gate_rows_come_before_up_rows(evaluate: Callable[[Problem, Inputs], Result]) -> None:
    problem = Problem(T=1, D=1, F=2, E=1, K=1, activation="relu")
    inputs = Inputs(
        x_TD=torch.ones(1, 1),
        routing=Routing(ids_TK=torch.zeros(1, 1, dtype=torch.int32), gates_TK=torch.ones(1, 1), experts=1),
        weights=Weights(
            w_up_EUD=torch.tensor([2.0, -3.0, 5.0, 7.0]).view(1, 4, 1), w_down_EDF=torch.tensor([[[1.0, 100.0]]])
        ),
        dy_TD=torch.ones(1, 1),
    )
    assert evaluate(problem, inputs).y_TD.tolist() == [[10.0]]  # relu(2) * 5 + 100 * relu(-3) * 7


@both
@pytest.mark.parametrize("gated", [True, False])
@pytest.mark.parametrize("activation", ["silu", "gelu", "relu"])
def test_gradients_are_those_of_finite_differences(
    evaluate: Callable[[Problem, Inputs], Result], gated: bool, activation: Activation
) -> None:
    problem = Problem(T=3, D=2, F=2, E=3, K=2, gated=gated, activation=activation, mode="train", capacity_factor=1.0)
    problem = problem.replace(bias=True)
    inputs = with_ids(draw(problem), [[0, 1], [0, 0], [NO_ROUTE, 1]])
    inputs = dataclasses.replace(inputs, x_TD=inputs.x_TD.double(), weights=inputs.weights.map(Tensor.double))
    gradients = evaluate(problem, inputs).gradients

    def loss() -> float:
        return float((evaluate(problem, inputs).y_TD * inputs.everything()["dy"]).sum())

    for name, tensor in inputs.differentiable().items():
        step = 2.0**-10 if name == "gates" else 2.0**-18  # y is linear in the float32 gates, so any step is exact
        flat = tensor.view(-1)
        for i in range(len(flat)):
            value = float(flat[i])
            flat[i] = value + step
            above, stepped_up = loss(), float(flat[i])
            flat[i] = value - step
            below, stepped_down = loss(), float(flat[i])
            flat[i] = value
            slope = (above - below) / (stepped_up - stepped_down)
            assert float(gradients[name].flatten()[i]) == pytest.approx(slope, rel=1e-6, abs=1e-8), (name, i)


def dense_mlp(problem: Problem, x_TD: Tensor, w_up_UD: Tensor, w_down_DF: Tensor) -> Tensor:
    """Compute a dense MLP independently of the project's activations."""
    act: dict[str, Callable[[Tensor], Tensor]] = {
        "silu": lambda h: h * torch.sigmoid(h),
        "gelu": functional.gelu,
        "relu": lambda h: h.clamp(min=0),
    }
    h_TU = functional.linear(x_TD, w_up_UD)
    if problem.gated:
        h_TU = act[problem.activation](h_TU[:, : problem.F]) * h_TU[:, problem.F :]
    else:
        h_TU = act[problem.activation](h_TU)
    return functional.linear(h_TU, w_down_DF)


@both
@pytest.mark.parametrize("gated", [True, False])
@pytest.mark.parametrize("activation", ["silu", "gelu", "relu"])
def test_all_tokens_on_one_expert_are_a_dense_layer(
    evaluate: Callable[[Problem, Inputs], Result], gated: bool, activation: Activation
) -> None:
    problem = Problem(T=6, D=8, F=5, E=3, K=1, gated=gated, activation=activation, mode="train")
    inputs = with_ids(draw(problem), [[2]] * 6)
    x_TD = inputs.x_TD.double().requires_grad_()
    w_up_UD = inputs.weights.w_up_EUD[2].double().requires_grad_()
    w_down_DF = inputs.weights.w_down_EDF[2].double().requires_grad_()
    gates_T1 = inputs.routing.gates_TK.double().requires_grad_()
    y_TD = gates_T1 * dense_mlp(problem, x_TD, w_up_UD, w_down_DF)
    dy_TD = inputs.everything()["dy"].double()
    dx, dw_up, dw_down, dgates = torch.autograd.grad(y_TD, [x_TD, w_up_UD, w_down_DF, gates_T1], dy_TD)
    result = evaluate(problem, inputs)
    torch.testing.assert_close(result.y_TD, y_TD.detach())
    torch.testing.assert_close(result.gradients["x"], dx)
    torch.testing.assert_close(result.gradients["gates"], dgates)
    for name, gradient in (("w_up", dw_up), ("w_down", dw_down)):
        torch.testing.assert_close(result.gradients[name][2], gradient)
        assert not result.gradients[name][:2].any()


@both
def test_the_same_expert_twice_in_a_row_adds_its_weights(evaluate: Callable[[Problem, Inputs], Result]) -> None:
    problem = Problem(T=2, D=4, F=3, E=2, K=2)
    inputs = draw(problem)
    gates_TK = torch.tensor([[0.25, 0.5], [0.125, 0.25]])
    routing = dataclasses.replace(inputs.routing, gates_TK=gates_TK)
    twice = evaluate(problem, with_ids(dataclasses.replace(inputs, routing=routing), [[1, 1], [0, 0]]))
    summed = dataclasses.replace(inputs.routing, gates_TK=gates_TK.sum(1, keepdim=True).expand(2, 2).contiguous())
    once = evaluate(problem, with_ids(dataclasses.replace(inputs, routing=summed), [[1, -1], [-1, 0]]))
    torch.testing.assert_close(twice.y_TD, once.y_TD, rtol=1e-12, atol=0)


@both
@pytest.mark.parametrize("T", [0, 3])
@pytest.mark.parametrize("mode", ["forward", "train"])
def test_without_routes_everything_is_exactly_zero_and_of_full_shape(
    evaluate: Callable[[Problem, Inputs], Result], T: int, mode: str
) -> None:
    problem = Problem(T=T, D=4, F=3, E=2, K=2).replace(mode=mode)
    inputs = with_ids(draw(problem), [[NO_ROUTE, NO_ROUTE]] * T)
    result = evaluate(problem, inputs)
    shapes = {name: tensor.shape for name, tensor in inputs.differentiable().items()} if mode == "train" else {}
    assert {name: gradient.shape for name, gradient in result.gradients.items()} == shapes
    assert result.y_TD.shape == (T, 4)
    assert not any(tensor.any() for tensor in (result.y_TD, *result.gradients.values()))


@both
def test_inputs_are_left_as_they_were(evaluate: Callable[[Problem, Inputs], Result]) -> None:
    problem = Problem(T=4, D=4, F=3, E=2, K=2, mode="train", capacity_factor=0.5)
    inputs = draw(problem).requires_grad_()
    before = [tensor.detach().clone() for tensor in (*inputs.differentiable().values(), inputs.routing.ids_TK)]
    result = evaluate(problem, inputs)
    after = (*inputs.differentiable().values(), inputs.routing.ids_TK)
    assert all(torch.equal(one, other) for one, other in zip(before, after, strict=True))
    assert all(tensor.grad is None for tensor in inputs.differentiable().values())
    assert not any(tensor.requires_grad for tensor in (result.y_TD, *result.gradients.values()))


def test_shards_of_a_result_put_together_are_the_result() -> None:
    problem = Problem(T=7, D=4, F=3, E=5, K=2, mode="train", ranks=3, bias=True)
    result = oracle(problem, draw(problem))
    parts = [result.shard(Shard.of(problem, rank)) for rank in range(problem.ranks)]
    assert torch.equal(torch.cat([part.y_TD for part in parts]), result.y_TD)
    for name, gradient in result.gradients.items():
        assert torch.equal(torch.cat([part.gradients[name] for part in parts]), gradient)


@both
@pytest.mark.parametrize("bias", [False, True])
def test_quantised_weights_count_as_their_rows_times_their_scales(
    evaluate: Callable[[Problem, Inputs], Result], bias: bool
) -> None:
    problem = Problem(T=5, D=8, F=6, E=3, K=2, dtype="float8_e4m3fn", bias=bias)
    inputs = draw(problem)
    weights = inputs.weights
    assert weights.s_up_EU is not None
    assert weights.s_down_ED is not None
    whole = Weights(
        w_up_EUD=weights.w_up_EUD.double() * weights.s_up_EU[..., None],
        w_down_EDF=weights.w_down_EDF.double() * weights.s_down_ED[..., None],
        b_up_EU=weights.b_up_EU,
        b_down_ED=weights.b_down_ED,
    )
    expected = evaluate(problem.replace(dtype="bfloat16"), dataclasses.replace(inputs, weights=whole))
    assert_same(evaluate(problem, inputs), expected)


def peak_of_reference(problem: Problem) -> int:
    inputs = draw(problem)
    if problem.mode == "train":
        inputs.requires_grad_()
    return peak(lambda: reference(problem, inputs), CPU)[1]


SHAPES = {
    "few wide experts": Problem(T=512, D=256, F=896, E=8, K=2),
    "few experts, most memory in rows": Problem(T=1024, D=64, F=512, E=4, K=1),
    "many narrow experts": Problem(T=512, D=128, F=48, E=64, K=8),
    "the narrowest": Problem(T=1536, D=96, F=16, E=64, K=8),
    "one expert, in parts": Problem(T=ROWS + 904, D=64, F=256, E=1, K=1),
    "decode": Problem(T=8, D=128, F=256, E=16, K=4),
}


CHANGES: list[dict[str, object]] = [
    {},
    {"dtype": "bfloat16", "bias": True},
    {"capacity_factor": 1.0},
    {"load": "zipf:1.0"},
]
CHANGES = [{"mode": mode, **changes} for mode in ("forward", "train") for changes in CHANGES]
CHANGES.append({"dtype": "float8_e4m3fn"})  # has no training step


@pytest.mark.parametrize(
    ("shape", "changes", "gated"),
    [
        pytest.param(shape, changes, gated, marks=[] if gated == odd else pytest.mark.exhaustive)
        for i, shape in enumerate(SHAPES)
        for j, changes in enumerate(CHANGES)
        for odd in [bool((i + j) % 2)]  # by default every shape has every change, gated in every other case
        for gated in (True, False)
    ],
    ids=str,
)
def test_the_reference_takes_the_memory_that_is_predicted(shape: str, changes: dict[str, object], gated: bool) -> None:
    problem = SHAPES[shape].replace(gated=gated, **changes)
    assert reference_bytes(problem) == pytest.approx(peak_of_reference(problem), rel=0.1)


@pytest.mark.parametrize(
    ("activation", "gated"),
    [
        ("gelu_tanh", True),
        ("relu2", False),
        ("silu_clamp10", True),
        ("swiglu_oai", True),
        ("situ", True),
        ("identity", True),
        ("identity", False),
    ],
)
@pytest.mark.parametrize("mode", ["forward", "train"])
def test_the_steps_of_an_activation_are_counted(activation: str, gated: bool, mode: str) -> None:
    for shape in ("one expert, in parts", "few experts, most memory in rows"):
        problem = SHAPES[shape].replace(activation=activation, gated=gated, mode=mode)
        assert reference_bytes(problem) == pytest.approx(peak_of_reference(problem), rel=0.1)


def test_float64_weights_are_those_of_one_expert() -> None:
    """With four times the experts a forward takes no more, a training step one more float64 gradient of each weight."""
    few = Problem(T=8, D=64, F=128, E=4, K=1)
    many = few.replace(E=16)
    weights = 8 * 64 * 3 * 128
    assert peak_of_reference(many) < peak_of_reference(few) + weights / 10
    trained = peak_of_reference(many.replace(mode="train")) - peak_of_reference(few.replace(mode="train"))
    assert trained == pytest.approx(12 * weights, rel=0.01)


def test_an_expert_taken_in_parts_is_the_same_function(monkeypatch: pytest.MonkeyPatch) -> None:
    problem = Problem(T=17, D=4, F=3, E=2, K=2, mode="train", bias=True)
    inputs = draw(problem)
    monkeypatch.setattr(module, "ROWS", 5)
    assert_same(reference(problem, inputs), oracle(problem, inputs))
