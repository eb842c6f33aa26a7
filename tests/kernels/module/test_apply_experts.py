"""The function below the layer: in graphs of torch.compile and torch.export, in float64, and with odd arguments."""

from __future__ import annotations

import importlib
import io
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.distributed.tensor import Replicate, Shard
from torch.nn.utils import parametrize
from torch.utils.checkpoint import checkpoint

from moebench.kernels.module import apply_experts as module
from moebench.kernels.module.apply_experts import apply_experts
from moebench.kernels.module.moe_layer import MoELayer
from moebench.kernels.problem import Problem
from moebench.kernels.problem.tensors import Weights, draw_weights

CPU = torch.device("cpu")
LENGTHS = (3, 5, 8, 13, 21, 34, 55, 2, 7, 9)
IDS = torch.tensor([[0, 1], [2, 3], [1, 3]])
GATES = torch.full((3, 2), 0.5)


class Model(nn.Module):
    """A layer between two others."""

    def __init__(self, layer: MoELayer) -> None:
        super().__init__()
        self.before, self.layer, self.after = nn.Linear(16, 16), layer, nn.Linear(16, 16)

    def forward(self, x_TD: Tensor, ids_TK: Tensor, gates_TK: Tensor) -> Tensor:
        y: Tensor = self.after(self.layer(self.before(x_TD), ids_TK, gates_TK))
        return y


def arguments(T: int, *, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Draw tokens, two experts of four for each, and gate weights."""
    rng = torch.Generator().manual_seed(seed)
    ids_TK = torch.rand(T, 4, generator=rng).topk(2).indices
    return torch.randn(T, 16, generator=rng), ids_TK, torch.rand(T, 2, generator=rng).requires_grad_()


def trained(model: Any, parameters: Sequence[Tensor], *given: Tensor) -> list[Tensor]:
    """Return the result and all gradients for a gradient that is not constant."""
    y = model(*given)
    weights = torch.linspace(-1, 1, y.numel()).view(y.shape).to(y.dtype)
    return [y.detach(), *torch.autograd.grad((y * weights).sum(), [*parameters, given[2]])]


@pytest.fixture
def dynamo() -> Iterator[Any]:
    """Yield the counters of compilations, and forget compiled code before and after."""
    counters = importlib.import_module("torch._dynamo.utils").counters  # here, as it takes seconds
    torch.compiler.reset()
    counters.clear()
    yield counters
    torch.compiler.reset()


CASES: list[Any] = [
    {},
    {"bias": True, "activation": "swiglu_oai"},
    {"dispatch": "grouped"},
    {"dispatch": "padded", "capacity_factor": 1.0, "drop": "gate_weight"},
]
COMPILED = pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor", "ignore:`torch.jit")


@COMPILED
@pytest.mark.parametrize(
    ("options", "backend"),
    [
        *((case, "aot_eager") for case in CASES[:1]),
        *(pytest.param(case, "aot_eager", marks=pytest.mark.exhaustive) for case in CASES[1:]),
        *(pytest.param(case, "inductor", marks=pytest.mark.exhaustive) for case in CASES),
    ],
    ids=str,
)
def test_a_model_in_one_graph_is_right_at_ten_lengths_with_two_compilations(
    options: dict[str, Any], backend: str, dynamo: Any
) -> None:
    model = Model(MoELayer(D=16, F=8, E=4, **options))
    compiled, parameters = torch.compile(model, backend=backend, fullgraph=True), list(model.parameters())
    for T in LENGTHS:
        given = arguments(T, seed=T)
        expected = trained(model, parameters, *given)
        torch.testing.assert_close(trained(compiled, parameters, *given), expected)
        with torch.no_grad():
            torch.testing.assert_close(compiled(*given), expected[0])
    assert dynamo["stats"]["unique_graphs"] <= 4, "two for training, two without gradients"


@COMPILED
def test_a_graph_has_checkpoints_autocast_and_computed_parameters(dynamo: Any) -> None:
    layer = MoELayer(D=16, F=8, E=4)
    parametrize.register_parametrization(layer, "down_proj", Doubled())
    parameters = list(layer.parameters())

    def run(*given: Tensor) -> Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            y: Tensor = checkpoint(layer, *given, use_reentrant=False)
            return y

    given = arguments(5)
    found = trained(torch.compile(run, backend="aot_eager", fullgraph=True), parameters, *given)
    torch.testing.assert_close(found, trained(run, parameters, *given), rtol=2e-2, atol=2e-2)
    assert dynamo["stats"]["unique_graphs"] == 1


class Doubled(nn.Module):
    """A parametrisation as those of adapters: the weight is computed when it is read."""

    def forward(self, weight: Tensor) -> Tensor:
        return 2 * weight


def test_an_exported_program_is_right_at_every_length_after_it_was_saved() -> None:
    layer, length = MoELayer(D=16, F=8, E=4), torch.export.Dim("T")
    given = tuple(one.detach() for one in arguments(5))
    program = torch.export.export(layer, given, dynamic_shapes=({0: length},) * 3)
    file = io.BytesIO()
    torch.export.save(program, file)
    file.seek(0)
    loaded = torch.export.load(file).module()
    for T in (2, 5, 11):
        other = arguments(T, seed=T)
        torch.testing.assert_close(loaded(*other), layer(*other))


@COMPILED
@pytest.mark.usefixtures("dynamo")
def test_a_layer_that_observes_runs_between_graphs_and_says_why() -> None:
    model = Model(MoELayer(D=16, F=8, E=4, load="observed"))
    given = arguments(3)
    torch.testing.assert_close(torch.compile(model, backend="eager")(*given), model(*given))
    torch.compiler.reset()
    with pytest.raises(Exception, match=r"load = 'observed' runs between two graphs"):
        torch.compile(model, backend="eager", fullgraph=True)(*given)


def test_to_export_a_layer_that_observes_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    monkeypatch.setattr(torch.compiler, "is_exporting", lambda: True)
    with pytest.raises(RuntimeError, match="give load = 'uniform' to export it"):
        MoELayer(D=16, F=8, E=4, load="observed")(torch.zeros(3, 16), IDS, GATES)


PROBLEM = Problem(T=0, D=4, F=3, E=3, K=1, bias=True, router="softmax_topk")


def in_float64(problem: Problem) -> tuple[Tensor, Tensor, Tensor, list[Tensor]]:
    """Draw tokens, ids, gate weights and the weights of experts; tokens and weights ask for gradients."""
    weights = draw_weights(problem, seed=0, device=CPU)
    tensors = [one.double().requires_grad_() for one in weights.named().values()]
    rng = torch.Generator().manual_seed(1)
    x_TD = torch.randn(3, 4, generator=rng, dtype=torch.float64, requires_grad=True)
    gates_TK = torch.rand(3, 2, generator=rng, dtype=torch.float64, requires_grad=True)
    return x_TD, torch.tensor([[0, 2], [1, -1], [2, 0]]), gates_TK, tensors


@pytest.mark.parametrize(
    "activation", ["relu2", *(pytest.param(name, marks=pytest.mark.exhaustive) for name in ("silu", "swiglu_oai"))]
)
def test_first_and_second_derivatives_in_float64_pass_gradcheck(activation: str) -> None:
    problem = PROBLEM.replace(activation=activation, gated=activation != "relu2")
    x_TD, ids_TK, gates_TK, tensors = in_float64(problem)

    def run(x_TD: Tensor, gates_TK: Tensor, *tensors: Tensor) -> Tensor:
        w_up, w_down, b_up, b_down = tensors
        weights = Weights(w_up_EUD=w_up, w_down_EDF=w_down, b_up_EU=b_up, b_down_ED=b_down)
        return apply_experts(problem, weights, x_TD, ids_TK, gates_TK)

    assert torch.autograd.gradcheck(run, (x_TD, gates_TK, *tensors))
    assert torch.autograd.gradgradcheck(run, (x_TD, gates_TK, *tensors))


def test_float64_is_the_same_as_float32_but_for_rounding() -> None:
    layer = MoELayer(D=16, F=8, E=4, capacity_factor=0.5, drop="gate_weight")
    x_TD, ids_TK, gates_TK = arguments(9)
    expected = layer(x_TD, ids_TK, gates_TK)
    torch.testing.assert_close(layer.double()(x_TD.double(), ids_TK, gates_TK).float(), expected)


@pytest.mark.parametrize("dispatch", ["auto", "scatter", "grouped", "padded", "block_sparse", "gshard_einsum"])
def test_a_second_derivative_of_a_kernel_is_refused_though_the_first_gradient_is_constant(dispatch: str) -> None:
    layer = MoELayer(D=16, F=16, E=4, dispatch=dispatch)
    x_TD, ids_TK, gates_TK = arguments(5)
    x_TD.requires_grad_()
    (dx_TD,) = torch.autograd.grad(layer(x_TD, ids_TK, gates_TK).sum(), x_TD, create_graph=True)
    with pytest.raises(RuntimeError, match="no second derivative: differentiate twice in float64"):
        dx_TD.square().sum().backward()


def test_ids_of_every_integer_dtype_are_taken() -> None:
    layer = MoELayer(D=16, F=8, E=4)
    x_TD, ids_TK, gates_TK = arguments(5)
    expected = layer(x_TD, ids_TK, gates_TK)
    for dtype in module.LARGEST_ID:
        assert torch.equal(layer(x_TD, ids_TK.to(dtype), gates_TK), expected), dtype


@pytest.mark.parametrize(("experts", "dtype"), [(129, torch.int8), (257, torch.uint8)])
def test_ids_that_cannot_hold_every_expert_are_refused(experts: int, dtype: torch.dtype) -> None:
    layer, few = MoELayer(D=4, F=2, E=experts), MoELayer(D=4, F=2, E=experts - 1)
    given = torch.zeros(3, 4), IDS.to(dtype), GATES
    few(*given)
    with pytest.raises(ValueError, match=f"{dtype}, which cannot hold the ids of {experts} experts: give torch.int32"):
        layer(*given)


@pytest.mark.usefixtures("dynamo")
@pytest.mark.parametrize("compiled", [False, True])
def test_absent_routes_may_have_any_weight(compiled: bool) -> None:
    layer = MoELayer(D=16, F=8, E=4)
    run: Any = torch.compile(layer, backend="aot_eager", fullgraph=True) if compiled else layer
    x_TD, ids_TK, _ = arguments(5)
    ids_TK[1], ids_TK[2, 0] = -1, 4
    gates_TK = torch.full((5, 2), 0.5).masked_fill((ids_TK < 0) | (ids_TK > 3), torch.nan).requires_grad_()
    found = trained(run, list(layer.parameters()), x_TD, ids_TK, gates_TK)
    plain = torch.full((5, 2), 0.5).masked_fill((ids_TK < 0) | (ids_TK > 3), 0).requires_grad_()
    expected = trained(layer, list(layer.parameters()), x_TD, ids_TK.clamp(0, 3), plain)
    absent = (ids_TK < 0) | (ids_TK > 3)
    expected[-1] = expected[-1].masked_fill(absent, 0)
    torch.testing.assert_close(found, expected)


class Sharded:
    """Stand-in for a DTensor: what a layer asks of one."""

    def __init__(self, local: Tensor, ranks: int, *, replicated: bool) -> None:
        self.local, self.ranks = local, ranks
        self.shape, self.placements = local.shape, (Replicate() if replicated else Shard(0),)

    @property
    def device_mesh(self) -> Sharded:
        return self

    def size(self) -> int:
        return self.ranks

    def to_local(self) -> Tensor:
        return self.local


@pytest.mark.parametrize(("ranks", "replicated"), [(1, False), (1, True), (8, True)])
def test_a_distributed_parameter_that_is_whole_is_used(ranks: int, replicated: bool) -> None:
    local = torch.zeros(2)
    assert module._local_part(local) is local
    sharded: Any = Sharded(local, ranks, replicated=replicated)
    assert module._local_part(sharded) is local


def test_a_parameter_spread_over_ranks_is_refused_with_what_to_do() -> None:
    sharded: Any = Sharded(torch.zeros(4, 2), 2, replicated=False)
    with pytest.raises(ValueError, match=r"shape \(4, 2\) is a DTensor, \(Shard\(dim=0\),\) over 2 ranks.*fully_shard"):
        module._local_part(sharded)
