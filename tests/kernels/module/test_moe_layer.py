"""`MoELayer` computes what the oracle says and what the blocks of transformers compute, and forgets every call."""

from __future__ import annotations

import copy
import io
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, Shard, distribute_tensor
from torch.nn.utils import parametrize

from moebench.execution.trial.checks.accuracy import errors, verdict
from moebench.kernels.catalog import KERNELS
from moebench.kernels.config import Config
from moebench.kernels.kernel import Cost, Kernel, Layer
from moebench.kernels.module import built_layers
from moebench.kernels.module.moe_layer import MoELayer
from moebench.kernels.oracle import Result, oracle
from moebench.kernels.problem import Problem
from moebench.kernels.problem.routing import Routing
from moebench.kernels.problem.tensors import Inputs, Weights, draw_inputs, draw_weights
from moebench.kernels.tuned.select import Choice

CPU = torch.device("cpu")
TRAIN = Problem(T=12, D=16, F=8, E=4, K=2, mode="train")
KERNELS_HERE = [
    name
    for name in KERNELS.names()
    if KERNELS.load(name).supports(TRAIN, CPU) is None and KERNELS.load(name).answers(TRAIN)
]
IN_BFLOAT16 = [
    name for name in KERNELS_HERE if KERNELS.load(name).supports(TRAIN.replace(dtype="bfloat16"), CPU) is None
]
dispatches = pytest.mark.parametrize("dispatch", ["auto", *KERNELS_HERE])


def drawn(problem: Problem) -> tuple[MoELayer, Inputs]:
    """Make a layer for the problem, and draw inputs with its parameters."""
    weights = draw_weights(problem, seed=1, device=CPU)
    layer = MoELayer.from_weights(
        weights, activation=problem.activation, capacity_factor=problem.capacity_factor, drop=problem.drop
    )
    return layer, draw_inputs(problem, layer.weights, seed=2, device=CPU).requires_grad_()


def run(layer: MoELayer, inputs: Inputs) -> Result:
    """Take a training step through the module, as `reference_check.call` does through a kernel."""
    y_TD = layer(inputs.x_TD, inputs.routing.ids_TK, inputs.routing.gates_TK)
    wanted = inputs.differentiable()
    gradients = torch.autograd.grad(y_TD, list(wanted.values()), inputs.dy_TD)
    return Result(y_TD=y_TD.detach(), gradients=dict(zip(wanted, gradients, strict=True)))


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"dtype": "bfloat16"},
        {"gated": False, "activation": "relu"},
        {"activation": "gelu", "bias": True},
        {"gated": False, "bias": True, "dtype": "float16"},
        {"capacity_factor": 0.5},
        {"capacity_factor": 0.5, "drop": "gate_weight"},
        {"T": 0},
        {"K": 4},
        {"D": 7, "F": 5},
    ],
    ids=str,
)
def test_output_and_every_gradient_are_the_oracles(changes: dict[str, object]) -> None:
    problem = TRAIN.replace(**changes)
    layer, inputs = drawn(problem)
    found = run(layer, inputs)
    assert verdict(errors(found, oracle(problem, inputs)), problem.dtype) is None
    assert found.y_TD.dtype == inputs.x_TD.dtype


def blocks() -> dict[str, nn.Module]:
    """Make a tiny sparse block of every family, with its router drawn at random."""
    mixtral: Any = pytest.importorskip("transformers.models.mixtral.modeling_mixtral")
    olmoe: Any = pytest.importorskip("transformers.models.olmoe.modeling_olmoe")
    qwen: Any = pytest.importorskip("transformers.models.qwen3_moe.modeling_qwen3_moe")
    sizes: dict[str, Any] = {"hidden_size": 16, "num_experts_per_tok": 2}
    made: dict[str, nn.Module] = {
        "mixtral": mixtral.MixtralSparseMoeBlock(
            mixtral.MixtralConfig(intermediate_size=8, num_local_experts=5, **sizes)
        ),
        "qwen3_moe": qwen.Qwen3MoeSparseMoeBlock(
            qwen.Qwen3MoeConfig(moe_intermediate_size=8, num_experts=5, norm_topk_prob=True, **sizes)
        ),
        "olmoe": olmoe.OlmoeSparseMoeBlock(olmoe.OlmoeConfig(intermediate_size=8, num_experts=5, **sizes)),
    }
    generator = torch.Generator().manual_seed(0)
    for block in made.values():
        for parameter in block.parameters():
            nn.init.normal_(parameter, std=0.3, generator=generator)
    return made


@pytest.mark.parametrize("family", ["mixtral", "qwen3_moe", "olmoe"])
@dispatches
def test_a_block_with_its_experts_replaced_is_the_same_block(family: str, dispatch: str) -> None:
    """Compare the output and the gradients of tokens, router and experts, which stay the same parameters."""
    block: Any = blocks()[family]
    x = torch.randn(2, 7, 16, generator=torch.Generator().manual_seed(1), requires_grad=True)
    dy = torch.randn(2, 7, 16, generator=torch.Generator().manual_seed(2))
    names = list(dict(block.named_parameters()))
    before = block(x)
    expected = torch.autograd.grad(before, [x, *block.parameters()], dy)
    block.experts = MoELayer.from_experts(block.experts, dispatch=dispatch)
    assert sorted(dict(block.named_parameters())) == sorted(names)
    after = block(x)
    torch.testing.assert_close(after, before, rtol=1e-5, atol=1e-6)
    parameters = dict(block.named_parameters())
    found = torch.autograd.grad(after, [x, *(parameters[name] for name in names)], dy)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("family", ["mixtral", "qwen3_moe", "olmoe"])
def test_a_block_in_bfloat16_stays_within_its_rounding(family: str) -> None:
    block: Any = blocks()[family].to(torch.bfloat16)
    x = torch.randn(2, 7, 16, generator=torch.Generator().manual_seed(1)).bfloat16()
    with torch.no_grad():
        before = block(x)
        block.experts = MoELayer.from_experts(block.experts)
        after = block(x)
    assert after.dtype == torch.bfloat16
    assert (after - before).float().norm() < 0.01 * before.float().norm()


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ({}, {"gate_up_proj": (4, 16, 16), "down_proj": (4, 16, 8)}),
        ({"gated": False}, {"up_proj": (4, 8, 16), "down_proj": (4, 16, 8)}),
        (
            {"bias": True},
            {
                "gate_up_proj": (4, 16, 16),
                "down_proj": (4, 16, 8),
                "gate_up_proj_bias": (4, 16),
                "down_proj_bias": (4, 16),
            },
        ),
        (
            {"bias": True, "gated": False},
            {"up_proj": (4, 8, 16), "down_proj": (4, 16, 8), "up_proj_bias": (4, 8), "down_proj_bias": (4, 16)},
        ),
    ],
    ids=str,
)
def test_a_state_dict_has_the_names_of_transformers_and_makes_an_equal_layer(
    options: dict[str, Any], names: dict[str, tuple[int, ...]]
) -> None:
    one, other = (MoELayer(D=16, F=8, E=4, dtype=torch.bfloat16, **options) for _ in range(2))
    state = one.state_dict()
    assert {name: tuple(tensor.shape) for name, tensor in state.items()} == names
    other.load_state_dict(state)
    assert all(torch.equal(tensor, other.state_dict()[name]) for name, tensor in state.items())


def test_new_layers_are_drawn_as_linear_ones_are() -> None:
    layer = MoELayer(D=64, F=16, E=4, bias=True)
    for name, width in (("gate_up_proj", 64), ("gate_up_proj_bias", 64), ("down_proj", 16), ("down_proj_bias", 16)):
        parameter = layer.get_parameter(name)
        bound = width**-0.5
        assert 0.9 * bound < float(parameter.detach().abs().max()) <= bound
        assert abs(float(parameter.detach().mean())) < 0.2 * bound


def test_batches_are_tokens_in_another_shape() -> None:
    layer, inputs = drawn(TRAIN)
    x_TD, ids_TK, gates_TK = inputs.x_TD, inputs.routing.ids_TK, inputs.routing.gates_TK
    flat = layer(x_TD, ids_TK, gates_TK)
    assert torch.equal(layer(x_TD.view(3, 4, 16), ids_TK, gates_TK), flat.view(3, 4, 16))
    assert torch.equal(layer(x_TD.view(3, 4, 16), ids_TK.view(3, 4, 2), gates_TK.view(3, 4, 2)), flat.view(3, 4, 16))
    assert torch.equal(layer(x_TD, ids_TK.long(), gates_TK), flat)
    assert layer(x_TD[:0].view(0, 4, 16), ids_TK[:0], gates_TK[:0]).shape == (0, 4, 16)


def test_ids_outside_the_experts_are_no_routes() -> None:
    """transformers marks the routes of other ranks with E; this package marks missing routes with −1."""
    layer, inputs = drawn(TRAIN)
    ids_TK, gates_TK = inputs.routing.ids_TK.clone(), inputs.routing.gates_TK
    ids_TK[::2, 1] = -1
    expected = layer(inputs.x_TD, ids_TK, gates_TK)
    for outside in (4, 5, 1000, -2):
        assert torch.equal(layer(inputs.x_TD, ids_TK.where(ids_TK >= 0, outside), gates_TK), expected)


def test_tokens_may_vary_from_call_to_call() -> None:
    """Compare with one call for all tokens: no build is taken for another one, and none keeps anything of a call."""
    layer, inputs = drawn(TRAIN)
    whole = layer(inputs.x_TD, inputs.routing.ids_TK, inputs.routing.gates_TK)
    for T in (1, 12, 5, 0, 7, 1):
        part = layer(inputs.x_TD[:T], inputs.routing.ids_TK[:T], inputs.routing.gates_TK[:T])
        torch.testing.assert_close(part, whole[:T])


def test_layers_of_equal_sizes_do_not_mix_their_weights() -> None:
    one, inputs = drawn(TRAIN)
    other = MoELayer.from_weights(one.weights.map(lambda tensor: 2 * tensor.detach()))
    arguments = (inputs.x_TD, inputs.routing.ids_TK, inputs.routing.gates_TK)
    first, second = one(*arguments), other(*arguments)
    assert not torch.allclose(first, second)
    assert torch.equal(one(*arguments), first)


def test_one_build_serves_all_layers_of_a_shape_and_the_oldest_is_forgotten() -> None:
    built_layers.forget()
    layers = [MoELayer(D=16, F=8, E=4) for _ in range(3)]
    ids_TK, gates_TK = torch.zeros(1, 1, dtype=torch.int64), torch.ones(1, 1)
    with torch.no_grad():
        for layer in layers:
            layer(torch.zeros(1, 16), ids_TK, gates_TK)
        assert built_layers.built.cache_info().misses == 1
        for T in range(2, built_layers.BUILDS + 10):
            layers[0](torch.zeros(T, 16), ids_TK.expand(T, 1), gates_TK.expand(T, 1))
    assert built_layers.built.cache_info().currsize == built_layers.BUILDS


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Problem]]:
    """Collect the problems that kernels are chosen for; the kernel fails where it runs under autocast."""
    problems: list[Problem] = []

    class Watched(Kernel):
        family = "watched"

        def build(self, problem: Problem, config: Config, device: torch.device) -> Layer:
            def layer(x_TD: Tensor, _routing: Routing, _weights: Weights) -> Tensor:
                assert not torch.is_autocast_enabled("cpu")
                return x_TD

            problems.append(problem)
            return layer

        def cost(self, problem: Problem, config: Config, routing: Routing) -> Cost:
            return Cost(executed_rows=problem.N, workspace_bytes=0)

    built_layers.forget()
    monkeypatch.setattr(built_layers, "choose", lambda *_, **__: Choice(Watched(), {}, ""))
    yield problems
    built_layers.forget()


def test_a_kernel_is_chosen_for_the_call_that_is_made(asked: list[Problem]) -> None:
    layer = MoELayer(D=16, F=8, E=4, bias=True, capacity_factor=1.5, drop="gate_weight", activation="gelu")
    layer(torch.zeros(3, 16), IDS, GATES)
    with torch.no_grad():
        layer(torch.zeros(3, 16), IDS, GATES)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            layer(torch.zeros(2, 2, 16), IDS[:1, :1].expand(4, 1), GATES[:1, :1].expand(4, 1))
    layer.requires_grad_(False)(torch.zeros(1, 16), IDS[:1], GATES[:1])
    layer(torch.zeros(1, 16, requires_grad=True), IDS[:1], GATES[:1])
    common = layer.problem.replace(K=2)
    assert (common.bias, common.capacity_factor, common.drop, common.activation) == (True, 1.5, "gate_weight", "gelu")
    assert asked == [
        common.replace(T=3, mode="train"),
        common.replace(T=3),
        common.replace(T=4, K=1, dtype="bfloat16"),
        common.replace(T=1),
        common.replace(T=1, mode="train"),
    ]


def test_a_layer_is_copied_and_pickled_as_any_module() -> None:
    layer, inputs = drawn(TRAIN)
    arguments = (inputs.x_TD, inputs.routing.ids_TK, inputs.routing.gates_TK)
    expected = layer(*arguments)
    file = io.BytesIO()
    torch.save(layer, file)
    file.seek(0)
    twins: list[MoELayer] = [copy.deepcopy(layer), torch.load(file, weights_only=False)]
    for twin in twins:
        assert torch.equal(twin(*arguments), expected)
        assert twin.get_parameter("down_proj").data_ptr() != layer.get_parameter("down_proj").data_ptr()


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
def test_without_gradients_nothing_is_kept(context: Any) -> None:
    layer, inputs = drawn(TRAIN)
    expected = oracle(TRAIN, inputs).y_TD
    with context():
        y_TD = layer(inputs.x_TD, inputs.routing.ids_TK, inputs.routing.gates_TK)
    assert y_TD.grad_fn is None
    torch.testing.assert_close(y_TD.double(), expected, rtol=1e-4, atol=1e-5)


@dispatches
def test_frozen_experts_pass_gradients_on_and_get_none(dispatch: str) -> None:
    layer, inputs = drawn(TRAIN)
    layer.dispatch = dispatch
    layer.requires_grad_(False)
    y_TD = layer(inputs.x_TD, inputs.routing.ids_TK, inputs.routing.gates_TK)
    y_TD.backward(inputs.dy_TD)
    expected = oracle(TRAIN, inputs).gradients
    for tensor, name in ((inputs.x_TD, "x"), (inputs.routing.gates_TK, "gates")):
        assert tensor.grad is not None
        torch.testing.assert_close(tensor.grad.double(), expected[name], rtol=1e-4, atol=1e-4)
    assert all(parameter.grad is None for parameter in layer.parameters())


@pytest.mark.parametrize("dispatch", ["auto", *IN_BFLOAT16])
@pytest.mark.parametrize("inside", [False, True], ids=["backward outside", "backward inside"])
def test_autocast_runs_the_experts_in_its_dtype(dispatch: str, inside: bool) -> None:
    layer, inputs = drawn(TRAIN)
    layer.dispatch = dispatch
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y_TD = layer(inputs.x_TD, inputs.routing.ids_TK, inputs.routing.gates_TK)
        wanted = inputs.differentiable()
        if inside:
            gradients = torch.autograd.grad(y_TD, list(wanted.values()), inputs.dy_TD)
    if not inside:
        gradients = torch.autograd.grad(y_TD, list(wanted.values()), inputs.dy_TD)
    assert y_TD.dtype == torch.float32
    assert all(gradient.dtype == torch.float32 for gradient in gradients)
    result = Result(y_TD=y_TD.detach(), gradients=dict(zip(wanted, gradients, strict=True)))
    found = errors(result, oracle(TRAIN, inputs))
    assert verdict({name: error for name, error in found.items() if name == "y"}, "bfloat16") is None
    assert all(error.norm < 0.02 for error in found.values()), "tokens and weights were rounded first"
    assert found["y"].norm > 1e-4, "it was not float32 that ran"


def test_autocast_takes_tokens_of_its_own_dtype() -> None:
    layer, inputs = drawn(TRAIN)
    arguments = (inputs.x_TD.detach().bfloat16(), inputs.routing.ids_TK, inputs.routing.gates_TK)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert layer(*arguments).dtype == torch.bfloat16


def test_a_layer_may_be_converted() -> None:
    layer, inputs = drawn(TRAIN)
    layer.to(torch.bfloat16)
    y_TD = layer(inputs.x_TD.bfloat16(), inputs.routing.ids_TK, inputs.routing.gates_TK.bfloat16())
    assert y_TD.dtype == torch.bfloat16
    y_TD = layer.double()(inputs.x_TD.double(), inputs.routing.ids_TK, inputs.routing.gates_TK)
    assert y_TD.dtype == torch.float64


IDS, GATES = torch.zeros(3, 2, dtype=torch.int64), torch.ones(3, 2)
BAD_CALLS: list[tuple[tuple[Tensor, Tensor, Tensor], str]] = [
    ((torch.zeros(3, 15), IDS, GATES), r"hidden_states have shape \(3, 15\): give \(T, 16\) or \(B, S, 16\)"),
    ((torch.zeros(16), IDS, GATES), r"hidden_states have shape \(16,\)"),
    ((torch.zeros(1, 1, 3, 16), IDS, GATES), r"hidden_states have shape \(1, 1, 3, 16\)"),
    ((torch.zeros(4, 16), IDS, GATES), r"top_k_index is \(3, 2\), .* give both as \(4, K\)"),
    ((torch.zeros(3, 16), IDS, GATES[:, :1]), r"top_k_weights \(3, 1\)"),
    ((torch.zeros(3, 16), IDS[:, 0], GATES[:, 0]), r"top_k_index is \(3,\)"),
    ((torch.zeros(3, 16), IDS[:, :0], GATES[:, :0]), "K = 0: give an integer of at least 1"),
    ((torch.zeros(3, 16), IDS.repeat(1, 3), GATES.repeat(1, 3)), "K = 6 experts per token, but only E = 4"),
    ((torch.zeros(3, 16), GATES, GATES), "top_k_index is torch.float32, .* give integers and floats"),
    ((torch.zeros(3, 16), IDS, IDS), "top_k_weights torch.int64"),
    ((torch.zeros(3, 16), GATES.to(torch.complex64), GATES), "top_k_index is torch.complex64, .* give integers"),
    ((torch.zeros(3, 16).half(), IDS, GATES), "hidden_states are torch.float16, the experts torch.float32"),
    ((torch.zeros(3, 16), IDS.to("meta"), GATES), "top_k_index on meta, .* bring them to one device"),
]


@pytest.mark.parametrize(("arguments", "words"), BAD_CALLS, ids=[words for _, words in BAD_CALLS])
def test_a_call_that_does_not_fit_is_refused_by_value(arguments: tuple[Tensor, Tensor, Tensor], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        MoELayer(D=16, F=8, E=4)(*arguments)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"dispatch": "scater"}, "no kernel is named 'scater': did you mean scatter"),
        ({"D": 0}, "D = 0: give an integer of at least 1"),
        ({"activation": "swish"}, "activation = 'swish': give one of silu, gelu, gelu_tanh, relu,"),
        ({"capacity_factor": -1}, "capacity_factor = -1: give a positive number"),
        ({"drop": "random"}, "drop = 'random'"),
        ({"dtype": torch.complex64}, "dtype = 'complex64': give one of float32, float16, bfloat16"),
    ],
    ids=str,
)
def test_a_layer_that_cannot_be_is_refused_when_it_is_made(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        MoELayer(**{"D": 16, "F": 8, "E": 4, **options})


def test_a_kernel_that_cannot_take_the_call_says_why() -> None:
    layer = MoELayer(D=16, F=8, E=4, dispatch="loop", capacity_factor=1.0)
    with pytest.raises(ValueError, match=r"loop: is dropless, .* capacity_factor = 1; .* dispatch = 'auto'"):
        layer(torch.zeros(3, 16), IDS, GATES)


WEIGHTS = draw_weights(TRAIN.replace(bias=True), seed=0, device=CPU).named()


@pytest.mark.parametrize(
    "changes",
    [
        {"w_up": torch.zeros(16, 16)},
        {"w_down": torch.zeros(16, 8)},
        {"w_up": torch.zeros(4, 24, 16)},
        {"w_up": torch.zeros(4, 16, 15)},
        {"w_down": torch.zeros(3, 16, 8)},
        {"w_down": torch.zeros(4, 16, 8).half()},
        {"b_up": None},
        {"b_down": None},
        {"b_up": torch.zeros(4, 8)},
        {"b_down": torch.zeros(4, 16).half()},
    ],
    ids=str,
)
def test_weights_that_do_not_go_together_are_refused_with_their_shapes(changes: dict[str, Tensor | None]) -> None:
    named: dict[str, Any] = WEIGHTS | changes
    weights = Weights(
        w_up_EUD=named["w_up"], w_down_EDF=named["w_down"], b_up_EU=named["b_up"], b_down_ED=named["b_down"]
    )
    with pytest.raises(ValueError, match=r"weights are w_up \(.*give w_up \(E, U, D\)"):
        MoELayer.from_weights(weights)
    MoELayer.from_weights(draw_weights(TRAIN.replace(bias=True), seed=0, device=CPU))


def test_a_layer_says_what_it_is() -> None:
    text = repr(MoELayer(D=16, F=8, E=4, capacity_factor=1.25, dispatch="padded"))
    assert "D=16, F=8, E=4, activation='silu', gated=True, bias=False, capacity_factor=1.25, dispatch='padded'" in text


def trained(layer: MoELayer, x_TD: Tensor, ids_TK: Tensor, gates_TK: Tensor) -> list[Tensor]:
    """Return the output of a call and every gradient, of the sum of the output."""
    x_TD, gates_TK = x_TD.detach().requires_grad_(), gates_TK.detach().requires_grad_()
    y_TD = layer(x_TD, ids_TK, gates_TK)
    return [y_TD.detach(), *torch.autograd.grad(y_TD.sum(), [x_TD, gates_TK, *layer.parameters()])]


@pytest.mark.parametrize("gate", [torch.nan, torch.inf, 9.0], ids=str)
@dispatches
def test_an_absent_route_adds_nothing_whatever_its_weight(dispatch: str, gate: float) -> None:
    """The same holds where the implementation reads every route; two experts that nobody chose hold NaN."""
    layer, inputs = drawn(TRAIN)
    ids_TK, gates_TK = inputs.routing.ids_TK.clone() % 2 + 1, inputs.routing.gates_TK.detach().clone()
    ids_TK[::2, 1] = -1
    ids_TK[3] = -1
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter[0], parameter[3] = torch.nan, torch.inf
    expected = [tensor.detach() for tensor in trained(layer, inputs.x_TD, ids_TK, gates_TK.where(ids_TK >= 0, 0))]
    layer.dispatch = dispatch
    for found, right in zip(
        trained(layer, inputs.x_TD, ids_TK, gates_TK.where(ids_TK >= 0, gate)), expected, strict=True
    ):
        torch.testing.assert_close(found, right, rtol=1e-4, atol=1e-5)
        assert right.isfinite().all()


def test_a_map_is_not_taken_for_ids() -> None:
    """Megatron routes by a boolean map (T, E) and weights (T, E)."""
    words = r"top_k_index is torch.bool, a map of tokens to experts: give the ids .* as integers \(3, K\)"
    with pytest.raises(ValueError, match=words):
        MoELayer(D=16, F=8, E=4)(torch.zeros(3, 16), torch.ones(3, 4, dtype=torch.bool), torch.ones(3, 4))


class Doubled(nn.Module):
    """A parametrisation that counts how often it is computed."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def forward(self, weight: Tensor) -> Tensor:
        self.calls += 1
        return 2 * weight


def test_parametrised_weights_are_made_once_a_call() -> None:
    layer, inputs = drawn(TRAIN.replace(bias=True))
    twice = MoELayer.from_weights(layer.weights.map(lambda tensor: 2 * tensor.detach()))
    parametrisations = {name: Doubled() for name in dict(layer.named_parameters())}
    for name, parametrisation in parametrisations.items():
        parametrize.register_parametrization(layer, name, parametrisation)
    for parametrisation in parametrisations.values():
        parametrisation.calls = 0
    arguments = (inputs.x_TD, inputs.routing.ids_TK, inputs.routing.gates_TK)
    assert torch.equal(layer(*arguments), twice(*arguments))
    assert [parametrisation.calls for parametrisation in parametrisations.values()] == [1, 1, 1, 1]


@pytest.mark.parametrize("bias", [False, True])
def test_a_call_on_meta_has_a_shape_and_gradients(bias: bool) -> None:
    layer = MoELayer(D=16, F=8, E=4, bias=bias, device="meta", dtype=torch.bfloat16)
    x = torch.empty(2, 3, 16, device="meta", dtype=torch.bfloat16)
    ids_TK, gates_TK = torch.empty(6, 2, device="meta", dtype=torch.int64), torch.empty(6, 2, device="meta")
    y, *gradients = trained(layer, x, ids_TK, gates_TK)
    assert (y.shape, y.dtype, y.device.type) == (x.shape, x.dtype, "meta")
    leaves = [x, gates_TK, *layer.parameters()]
    assert [(gradient.shape, gradient.dtype) for gradient in gradients] == [(leaf.shape, leaf.dtype) for leaf in leaves]


@pytest.fixture
def mesh(tmp_path: Path) -> Iterator[DeviceMesh]:
    """Join a group of one rank."""
    torch.distributed.init_process_group(
        "gloo", init_method=(tmp_path / "store").as_uri(), rank=0, world_size=1, timeout=timedelta(seconds=30)
    )
    yield init_device_mesh("cpu", (1,))
    torch.distributed.destroy_process_group()


def test_distributed_tensors_of_one_rank_are_a_plain_layer(mesh: DeviceMesh) -> None:
    layer, inputs = drawn(TRAIN)
    arguments = (inputs.x_TD, inputs.routing.ids_TK, inputs.routing.gates_TK)
    expected = layer(*arguments)
    for name, parameter in list(layer.named_parameters()):
        setattr(layer, name, nn.Parameter(distribute_tensor(parameter.detach(), mesh, [Shard(0)])))
    found = layer(*arguments)
    assert torch.equal(found, expected)
    found.sum().backward()
    assert all(isinstance(parameter.grad, DTensor) for parameter in layer.parameters())
    sharded = distribute_tensor(inputs.x_TD.detach(), mesh, [Shard(0)])
    with pytest.raises(ValueError, match=r"hidden_states is a DTensor: .* hidden_states.to_local\(\)"):
        layer(sharded, *arguments[1:])


def test_parameters_that_are_replaced_at_every_forward_are_read_anew(mesh: DeviceMesh) -> None:
    """`fully_shard` gives a layer other parameters for a forward than it has between them."""
    plain, inputs = drawn(TRAIN)
    sharded = copy.deepcopy(plain)
    fully_shard(sharded, mesh=mesh)
    for tokens in (TRAIN.T, 5):
        given = (inputs.x_TD[:tokens], inputs.routing.ids_TK[:tokens], inputs.routing.gates_TK[:tokens])
        for layer in (plain, sharded):
            layer.zero_grad()
            layer(*given).sum().backward()
        for mine, its in zip(plain.parameters(), sharded.parameters(), strict=True):
            assert isinstance(its.grad, DTensor)
            torch.testing.assert_close(its.grad.full_tensor(), mine.grad, rtol=0, atol=0)


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.float8_e5m2])
def test_weights_without_their_scales_are_refused(dtype: torch.dtype) -> None:
    weights = draw_weights(TRAIN, seed=0, device=CPU)
    with pytest.raises(ValueError, match=f"experts of {dtype} have scales, .*dequantize=True"):
        MoELayer.from_weights(weights.map(lambda tensor: tensor.to(dtype)))
    with pytest.raises(ValueError, match="weights have s_up and s_down, which this layer does not read"):
        MoELayer.from_weights(draw_weights(TRAIN.replace(dtype="float8_e4m3fn", mode="forward"), seed=0, device=CPU))
