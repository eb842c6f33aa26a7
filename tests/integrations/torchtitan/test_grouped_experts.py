"""torchtitan's experts by moebench: the outputs and gradients of its own, on the same parameters."""

from __future__ import annotations

import inspect
import weakref
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import Shard, distribute_tensor
from torchtitan_double import INSTALLED, importable_torchtitan

from moebench.common.names import UnknownName
from moebench.integrations.torchtitan import joined_weights, sorted_rows
from moebench.integrations.torchtitan.sorted_rows import apply_to_sorted_rows

D, F, E = 32, 48, 4
NAME = "moebench.torchtitan.grouped_experts"
NEAR = 1e-2  # bfloat16
installed = pytest.mark.skipif(not INSTALLED, reason="torchtitan is not installed")


@pytest.fixture(scope="module")
def stock() -> Iterator[Any]:
    """Return torchtitan's own class of experts."""
    with importable_torchtitan():
        from torchtitan.models.common.moe import GroupedExperts  # noqa: PLC0415  # there only now

        yield GroupedExperts


@pytest.fixture
def pair(stock: Any) -> tuple[nn.Module, nn.Module]:
    """Return torchtitan's own experts and ours, with equal parameters."""
    from moebench.torchtitan import grouped_experts  # noqa: PLC0415  # needs torchtitan

    config = stock.Config(dim=D, hidden_dim=F, num_experts=E)
    replaced = grouped_experts(config)
    own, ours = stock(config), _owner(replaced)(replaced)
    torch.manual_seed(0)
    for parameter in own.parameters():
        nn.init.normal_(parameter, std=0.2)
    ours.load_state_dict(own.state_dict())
    return own, ours


def _owner(config: Any) -> Any:
    from moebench.integrations.torchtitan.grouped_experts import MoebenchGroupedExperts  # noqa: PLC0415

    assert type(config) is MoebenchGroupedExperts.Config
    return MoebenchGroupedExperts


def near(found: Tensor, wanted: Tensor) -> bool:
    return bool((found.float() - wanted.float()).norm() <= NEAR * wanted.float().norm())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("counts", [(3, 0, 6, 2), (0, 0, 0, 5), (1, 1, 1, 1)], ids=str)
def test_outputs_and_gradients_are_those_of_torchtitan(
    pair: tuple[nn.Module, nn.Module], dtype: torch.dtype, counts: tuple[int, ...]
) -> None:
    x, found = torch.randn(sum(counts), D, dtype=dtype), []
    upstream = torch.randn_like(x)
    for experts in pair:
        rows = x.clone().requires_grad_()
        y = experts.to(dtype)(rows, torch.tensor(counts))
        y.backward(upstream)
        assert y.dtype == dtype
        grads = {name: parameter.grad for name, parameter in experts.named_parameters()}
        found.append({"y": y, "x": rows.grad, **grads})
    for name, wanted in found[0].items():
        got = found[1][name]
        assert got is not None
        assert got.dtype == dtype, name
        assert near(got, wanted), name


def test_no_rows_give_no_rows_and_gradients_of_zero(pair: tuple[nn.Module, nn.Module]) -> None:
    _, ours = pair
    y = ours(torch.empty(0, D), torch.zeros(E, dtype=torch.int64))
    assert y.shape == (0, D)
    y.sum().backward()
    assert all(parameter.grad is not None and not parameter.grad.any() for parameter in ours.parameters())


def test_rows_after_the_last_expert_give_zero_and_reach_no_gradient(pair: tuple[nn.Module, nn.Module]) -> None:
    """Dispatchers with a buffer of fixed size fill it as far as there are rows."""
    _, ours = pair
    counts, x = torch.tensor([2, 0, 1, 2]), torch.randn(5, D)
    padded = torch.cat([x, torch.full((3, D), 7.0)]).requires_grad_()
    y = ours(padded, counts)
    assert torch.equal(y[:5], ours(x, counts))
    assert not y[5:].any()
    y.sum().backward()
    assert padded.grad is not None
    assert not padded.grad[5:].any()


def test_a_dtensor_is_read_by_its_local_part(pair: tuple[nn.Module, nn.Module], tmp_path: Path) -> None:
    own, ours = pair
    counts, x = torch.tensor([2, 0, 1, 2]), torch.randn(5, D)
    wanted = own(x, counts)
    wanted.sum().backward()
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        mesh = init_device_mesh("cpu", (1,), mesh_dim_names=("ep",))
        for name, parameter in list(ours.named_parameters()):
            ours.register_parameter(name, nn.Parameter(distribute_tensor(parameter.data, mesh, [Shard(0)])))
        y = ours(x, counts)
        assert type(y) is Tensor
        assert near(y, wanted)
        y.sum().backward()
        for name, parameter in ours.named_parameters():
            assert isinstance(parameter.grad, torch.distributed.tensor.DTensor)
            expected = own.get_parameter(name).grad
            assert expected is not None
            assert near(parameter.grad.to_local(), expected), name
    finally:
        torch.distributed.destroy_process_group()


def test_what_was_joined_is_not_kept_for_the_backward_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[weakref.ref[Tensor]] = []

    def watched(gate_EFD: Tensor, up_EFD: Tensor) -> Tensor:
        both = torch.cat((gate_EFD, up_EFD), dim=1)
        made.append(weakref.ref(both))
        return both

    for module in (sorted_rows, joined_weights):
        monkeypatch.setattr(module, "joined", watched)
    gate, up, down = (torch.randn(shape, requires_grad=True) for shape in ((E, F, D), (E, F, D), (E, D, F)))
    y = apply_to_sorted_rows(
        gate, up, down, torch.randn(4, D, requires_grad=True), torch.tensor([1, 1, 1, 1]), dispatch="auto"
    )
    assert len(made) == 1
    assert made[0]() is None
    y.sum().backward()
    assert len(made) > 1  # joined again
    assert gate.grad is not None


def test_sorted_rows_in_float32_are_those_of_a_loop() -> None:
    gate, up, down = (torch.randn(shape) * 0.2 for shape in ((E, F, D), (E, F, D), (E, D, F)))
    counts, x = [3, 0, 1, 4], torch.randn(8, D)
    y = apply_to_sorted_rows(gate, up, down, x, torch.tensor(counts), dispatch="auto")
    expert_of_row = [expert for expert, count in enumerate(counts) for _ in range(count)]
    for row, expert in enumerate(expert_of_row):
        h = nn.functional.silu(gate[expert] @ x[row]) * (up[expert] @ x[row])
        torch.testing.assert_close(y[row], down[expert] @ h, rtol=1e-4, atol=1e-5)


def test_the_override_is_found_by_its_name_and_takes_a_kernel(stock: Any) -> None:
    from moebench.torchtitan import grouped_experts  # noqa: PLC0415  # needs torchtitan

    assert f"{grouped_experts.__module__}.{grouped_experts.__name__}" == NAME
    config = stock.Config(dim=D, hidden_dim=F, num_experts=E, param_init={"w1_EFD": nn.init.zeros_})
    replaced = grouped_experts(config, dispatch="padded")
    assert (replaced.dim, replaced.hidden_dim, replaced.num_experts) == (D, F, E)
    assert replaced.param_init == config.param_init
    assert replaced.dispatch == "padded"


def test_a_kernel_that_is_none_is_refused_when_the_model_is_made(stock: Any) -> None:
    from moebench.torchtitan import grouped_experts  # noqa: PLC0415  # needs torchtitan

    config = grouped_experts(stock.Config(dim=D, hidden_dim=F, num_experts=E), dispatch="paded")
    with pytest.raises(UnknownName, match="no kernel is named 'paded'"):
        _owner(config)(config)


def test_parameters_that_are_not_read_are_refused(stock: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from moebench.torchtitan import grouped_experts  # noqa: PLC0415  # needs torchtitan

    def with_bias(self: nn.Module, _: Any) -> None:
        nn.Module.__init__(self)
        self.b1_EF = nn.Parameter(torch.zeros(1))

    config = grouped_experts(stock.Config(dim=D, hidden_dim=F, num_experts=E))
    monkeypatch.setattr(stock, "__init__", with_bias)
    with pytest.raises(ValueError, match=r"parameters b1_EF, and moebench reads w1_EFD, w2_EDF, w3_EFD: leave out"):
        _owner(config)(config)


@installed
def test_the_installed_torchtitan_is_the_one_that_was_read(stock: Any) -> None:
    assert version("torchtitan") == "0.3.0"
    assert list(inspect.signature(stock.forward).parameters) == ["self", "x_RD", "num_tokens_per_expert_E"]


@installed
def test_the_installed_torchtitan_replaces_the_experts_and_leaves_the_dispatcher(stock: Any) -> None:
    from torchtitan.config.override import OverrideConfig, apply_overrides  # noqa: PLC0415
    from torchtitan.models.common.moe import RoutedExperts  # noqa: PLC0415
    from torchtitan.models.common.token_dispatcher import LocalTokenDispatcher  # noqa: PLC0415

    dispatcher = LocalTokenDispatcher.Config(num_experts=E, top_k=2)
    inner = stock.Config(dim=D, hidden_dim=F, num_experts=E)
    config = RoutedExperts.Config(inner_experts=inner, token_dispatcher=dispatcher)
    own = config.build()
    assert apply_overrides(OverrideConfig(imports=[(NAME, {"dispatch": "grouped"})]), config)
    ours = config.build()
    assert type(ours.inner_experts).__name__ == "MoebenchGroupedExperts"
    assert ours.inner_experts.dispatch == "grouped"
    assert config.token_dispatcher is dispatcher
    for parameter in own.parameters():
        nn.init.normal_(parameter, std=0.2)
    ours.load_state_dict(own.state_dict())
    x, scores = torch.randn(1, 6, D), torch.rand(1, 6, E).softmax(-1)
    gates, ids = scores.topk(2)
    arguments = (x, gates, ids, torch.bincount(ids.flatten(), minlength=E))
    assert near(ours(*arguments), own(*arguments))
