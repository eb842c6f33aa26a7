"""vLLM's plug-in: one variable turns it on, vLLM's own class takes the rest, and no fault of ours stops an engine."""

from __future__ import annotations

import importlib
import logging
import math
import subprocess
import sys
import tomllib
from collections.abc import Callable
from dataclasses import dataclass, make_dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
import vllm_double as vllm
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from vllm_double import MoEActivation, TritonExperts

from moebench.common.packages import is_installed
from moebench.integrations.vllm.vllm_experts import say_once
from moebench.integrations.vllm.vllm_interface import READ, VllmParts, differences
from moebench.integrations.vllm.vllm_plugin import VARIABLE, register
from moebench.kernels.catalog import KERNELS
from moebench.kernels.triton.launch import recording

ORACLE = f"{vllm.ROOT}.oracle.unquantized"


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> dict[str, ModuleType]:
    """Put the double in the place of vLLM, as it is on a GPU of NVIDIA."""
    made = vllm.modules()
    for name, module in made.items():
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr(TritonExperts, "calls", 0)
    monkeypatch.setattr(vllm.current_platform, "kind", "cuda")
    monkeypatch.setattr(vllm.current_platform, "batch_invariant", False)
    say_once.cache_clear()
    return made


Select = Callable[..., Any]


@pytest.fixture
def select(engine: dict[str, ModuleType], monkeypatch: pytest.MonkeyPatch) -> Select:
    """Turn the plug-in on with a kernel that runs here, and choose experts as vLLM does."""
    monkeypatch.setenv(VARIABLE, "grouped")
    register()
    return lambda config, **options: vllm.select(engine[ORACLE], config, **options)


def layer(**changes: Any) -> vllm.FusedMoEConfig:
    fields: dict[str, Any] = {
        "num_experts": 6,
        "experts_per_token": 2,
        "hidden_dim": 16,
        "intermediate_size_per_partition": 24,
        "num_local_experts": 6,
    }
    return vllm.FusedMoEConfig(**fields | changes)


def test_the_entry_point_names_it() -> None:
    project = tomllib.loads((Path(__file__).parents[3] / "pyproject.toml").read_text())["project"]
    module, _, name = project["entry-points"]["vllm.general_plugins"]["moebench"].partition(":")
    assert getattr(importlib.import_module(module), name) is register


@pytest.mark.parametrize("value", [None, "", "0"])
def test_without_the_variable_it_does_nothing(
    value: str | None, engine: dict[str, ModuleType], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    if value is not None:
        monkeypatch.setenv(VARIABLE, value)
    register()
    assert engine[ORACLE].backend_to_kernel_cls is vllm.backend_to_kernel_cls


def test_without_the_variable_not_even_torch_is_imported() -> None:
    """The entry point is imported in every process of every engine on a machine."""
    code = (
        "import sys; from moebench.integrations.vllm.vllm_plugin import register; register(); "
        "sys.exit(' '.join({'torch', 'triton', 'numpy', 'pydantic'} & set(sys.modules)) or 0)"
    )
    run = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert (run.returncode, run.stderr) == (0, "")


def test_a_layer_gets_our_experts_and_the_log_says_so(
    engine: dict[str, ModuleType], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "vllm.moebench")
    monkeypatch.setenv(VARIABLE, "1")
    register()
    register()  # vLLM calls plug-ins again in some processes
    chosen = engine[ORACLE].backend_to_kernel_cls(backend=vllm.UnquantizedMoeBackend.TRITON)
    assert [one.__name__ for one in chosen] == ["MoebenchExperts", "TritonExperts"]
    assert engine[ORACLE].backend_to_kernel_cls(vllm.UnquantizedMoeBackend.BATCHED_TRITON) == [
        vllm.BatchedTritonExperts
    ]
    assert "moebench's triton_scatter runs in vLLM" in caplog.text


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"activation": MoEActivation.SWIGLUOAI}, "swigluoai activation"),
        ({"activation": MoEActivation.SWIGLUSTEP}, "activation"),
        ({"moe_parallel_config": vllm.FusedMoEParallelConfig(2, 2, 2, True, "deepep_high_throughput")}, "parallel"),
        ({"num_local_experts": 1}, "a rank has fewer experts than a token chooses"),
    ],
)
def test_what_is_not_taken_is_left_to_vllm_with_a_reason(
    changes: dict[str, Any], reason: str, select: Select, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "vllm.moebench")
    assert select(layer(**changes)) is TritonExperts
    (line,) = [record.getMessage() for record in caplog.records]
    assert line.startswith("vLLM's own experts run: ")
    assert reason.lower() in line.lower()


def test_devices_batch_invariance_formats_and_quantised_weights_are_left_to_vllm(
    select: Select, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = select(layer())
    assert ours.__name__ == "MoebenchExperts"
    standard = vllm.FusedMoEActivationFormat.Standard
    assert not ours.is_supported_config(ours, layer(), "fp8", "fp8", standard)[0]
    assert TritonExperts.is_supported_config(TritonExperts, layer(), "fp8", "fp8", standard)[0]
    assert select(layer(), batched=True) is vllm.BatchedTritonExperts
    monkeypatch.setattr(vllm.current_platform, "batch_invariant", True)
    assert select(layer()) is TritonExperts
    monkeypatch.setattr(vllm.current_platform, "batch_invariant", False)
    monkeypatch.setattr(vllm.current_platform, "kind", "xpu")
    assert select(layer()) is TritonExperts


@pytest.mark.parametrize(
    "ranks",
    [
        vllm.FusedMoEParallelConfig(tp_size=4),
        vllm.FusedMoEParallelConfig(ep_size=2, use_ep=True, enable_eplb=True),
        vllm.FusedMoEParallelConfig(dp_size=2, ep_size=2, use_ep=True),
    ],
)
def test_tensor_and_expert_parallelism_are_taken(ranks: vllm.FusedMoEParallelConfig, select: Select) -> None:
    assert select(layer(moe_parallel_config=ranks)).__name__ == "MoebenchExperts"


@dataclass
class Tensors:
    """The tensors of one call."""

    x: torch.Tensor
    w1: torch.Tensor
    w2: torch.Tensor
    gates: torch.Tensor
    ids: torch.Tensor

    @staticmethod
    def drawn(config: vllm.FusedMoEConfig, T: int = 9, device: str = "cpu") -> Tensors:
        generator = torch.Generator().manual_seed(T)
        D, F, E = config.hidden_dim, config.intermediate_size_per_partition, config.num_local_experts
        U, K = F * (2 if config.is_act_and_mul else 1), config.experts_per_token

        def normal(*shape: int) -> torch.Tensor:
            return torch.randn(shape, generator=generator, dtype=config.in_dtype) / math.sqrt(shape[-1])

        scores = torch.rand((T, config.num_experts), generator=generator)
        gates, ids = scores.topk(K)
        found = Tensors(normal(T, D) * 4, normal(E, U, D) * 4, normal(E, D, F) * 4, gates, ids.int())
        return Tensors(**{name: tensor.to(device) for name, tensor in vars(found).items()})

    def run(self, experts: Any, **options: Any) -> Any:
        return vllm.run_modular(experts, self.x, self.w1, self.w2, self.gates, self.ids, **options)


SWIGLU_OAI = {"swiglu_limit": 7.0, "swiglu_alpha": 1.702, "swiglu_beta": 1.0}
SITU = {"activation_situ_beta": 4.0, "activation_situ_linear_beta": 25.0}


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"activation": MoEActivation.GELU},
        {"activation": MoEActivation.GELU_TANH},
        {"activation": MoEActivation.SILU_NO_MUL},
        {"activation": MoEActivation.RELU2_NO_MUL},
        {"swiglu_limit": 10.0},
        {"activation": MoEActivation.SWIGLUOAI_UNINTERLEAVE, **SWIGLU_OAI},
        {"activation": MoEActivation.SITU, **SITU},
        {"in_dtype": torch.bfloat16},
        {"has_bias": True},
        {"experts_per_token": 1},
    ],
    ids=str,
)
def test_a_layer_is_computed_as_vllm_computes_it(changes: dict[str, Any], select: Select) -> None:
    config = layer(**changes)
    tensors = Tensors.drawn(config)
    U = tensors.w1.shape[1]
    quant = vllm.FusedMoEQuantConfig()
    if config.has_bias:
        quant = vllm.FusedMoEQuantConfig(w1_bias=torch.randn(6, U), w2_bias=torch.randn(6, 16))
    theirs = tensors.run(TritonExperts(config, quant))
    before = TritonExperts.calls
    ours = tensors.run(select(config)(config, quant))
    assert TritonExperts.calls == before
    bound = 1e-5 if config.in_dtype == torch.float32 else 2e-2
    assert (ours - theirs).norm() <= bound * theirs.norm()


@pytest.mark.parametrize(
    "changes",
    [
        {"swiglu_limit": 5.0},
        {"activation": MoEActivation.SWIGLUOAI_UNINTERLEAVE, **SWIGLU_OAI, "swiglu_alpha": 1.5},
        {"activation": MoEActivation.SWIGLUOAI_UNINTERLEAVE, **SWIGLU_OAI, "swiglu_beta": 0.5},
        {"activation": MoEActivation.SWIGLUOAI_UNINTERLEAVE, **SWIGLU_OAI, "swiglu_limit": 6.0},
        {"activation": MoEActivation.SITU, **SITU, "activation_situ_linear_beta": 3.0},
        {"activation": MoEActivation.SITU, **SITU, "activation_situ_beta": 3.0},
        {"is_lora_enabled": True},
    ],
    ids=str,
)
def test_numbers_that_no_kernel_has_and_lora_run_in_vllms_kernel(
    changes: dict[str, Any], select: Select, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "vllm.moebench")
    config = layer(**changes)
    tensors, quant = Tensors.drawn(config), vllm.FusedMoEQuantConfig()
    experts = select(config)(config, quant)
    assert type(experts).__name__ == "MoebenchExperts"
    assert torch.equal(tensors.run(experts), tensors.run(TritonExperts(config, quant)))
    assert type(experts).calls == 1
    (line,) = [record.getMessage() for record in caplog.records]
    assert line.startswith("vLLM's own experts run: ")


def test_experts_of_other_ranks_and_missing_routes_add_nothing(select: Select) -> None:
    """The map has −1 for experts of other ranks; −1 among the ids is no route, and indexes nothing."""
    config = layer(num_experts=12, num_local_experts=6, experts_per_token=4)
    tensors, quant = Tensors.drawn(config), vllm.FusedMoEQuantConfig()
    tensors.ids[0] = -1
    tensors.ids[3, 1:] = -1
    expert_map = torch.full((12,), -1, dtype=torch.int32)
    expert_map[torch.tensor([1, 2, 5, 7, 8, 11])] = torch.tensor([3, 0, 1, 5, 2, 4], dtype=torch.int32)
    theirs = tensors.run(TritonExperts(config, quant), expert_map=expert_map)
    ours = tensors.run(select(config)(config, quant), expert_map=expert_map)
    assert not ours[0].any()
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
    tensors.ids[2, 0] = -1
    without = tensors.run(select(config)(config, quant), expert_map=expert_map)
    tensors.ids[2, 0] = 500  # of no expert at all: no route, and not the last expert's
    assert torch.equal(tensors.run(select(config)(config, quant), expert_map=expert_map), without)


def test_router_weights_on_the_input_are_not_applied_again(select: Select) -> None:
    config = layer(experts_per_token=1)
    tensors, quant = Tensors.drawn(config), vllm.FusedMoEQuantConfig()
    theirs = tensors.run(TritonExperts(config, quant), apply_router_weight_on_input=True)
    ours = tensors.run(select(config)(config, quant), apply_router_weight_on_input=True)
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


def test_a_kernel_that_fails_is_replaced_by_vllms_and_told_once(
    select: Select, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    config = layer(hidden_dim=24)
    tensors, quant = Tensors.drawn(config), vllm.FusedMoEQuantConfig()
    experts = select(config)(config, quant)

    def broken(*_: object) -> Any:
        raise RuntimeError("out of registers")

    monkeypatch.setattr(type(KERNELS.load("grouped")), "build", broken)
    theirs = tensors.run(TritonExperts(config, quant))
    for _ in range(2):
        assert torch.equal(tensors.run(experts), theirs)
    (line,) = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert line == "vLLM's own experts run from now on: grouped failed with RuntimeError: out of registers"


def test_memory_that_is_used_up_is_vllms_to_handle(select: Select, monkeypatch: pytest.MonkeyPatch) -> None:
    config = layer(hidden_dim=40)
    tensors, quant = Tensors.drawn(config), vllm.FusedMoEQuantConfig()
    experts = select(config)(config, quant)

    def broken(*_: object) -> Any:
        raise torch.OutOfMemoryError("none left")

    monkeypatch.setattr(type(KERNELS.load("grouped")), "build", broken)
    with pytest.raises(torch.OutOfMemoryError, match="none left"):
        tensors.run(experts)


def test_a_hook_after_the_second_product_and_strided_weights_run_in_vllms_kernel(select: Select) -> None:
    config = layer()
    tensors, quant = Tensors.drawn(config), vllm.FusedMoEQuantConfig()
    experts = select(config)(config, quant)
    expected = tensors.run(experts)
    tensors.w1 = torch.nn.functional.pad(tensors.w1, (0, 8))[..., :-8]  # as vLLM pads weights on AMD's GPUs
    assert not tensors.w1.is_contiguous()
    torch.testing.assert_close(tensors.run(experts), expected, rtol=1e-5, atol=1e-5)
    experts.post_gemm2_hook = print
    tensors.run(experts)
    assert type(experts).calls == 2


@pytest.mark.parametrize("T", [1, 5])
def test_the_default_kernel_computes_the_same_in_tritons_interpreter(
    T: int, engine: dict[str, ModuleType], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, "1")
    register()
    config = layer(num_experts=8, num_local_experts=4, hidden_dim=32, intermediate_size_per_partition=32)
    tensors, quant = Tensors.drawn(config, T=T), vllm.FusedMoEQuantConfig()
    expert_map = torch.tensor([-1, 2, -1, 0, 3, -1, 1, -1], dtype=torch.int32)
    theirs = tensors.run(TritonExperts(config, quant), expert_map=expert_map)
    before = TritonExperts.calls
    ours = tensors.run(vllm.select(engine[ORACLE], config)(config, quant), expert_map=expert_map)
    assert TritonExperts.calls == before
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


@dataclass
class Reserved(TorchDispatchMode):
    """The bytes of all tensors that operators make, as the allocator of a GPU would hand them out and never back."""

    size: int = 0

    def __post_init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        known = {one.untyped_storage()._cdata for one in tree_leaves((args, kwargs)) if isinstance(one, torch.Tensor)}
        for one in tree_leaves(made):
            if isinstance(one, torch.Tensor) and one.untyped_storage()._cdata not in known:
                self.size += one.untyped_storage().nbytes()
        return made


@pytest.mark.parametrize("T", [1, 9, 2048])
def test_a_triton_kernel_reads_nothing_on_the_host_and_needs_less_than_the_workspaces(
    T: int, engine: dict[str, ModuleType], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Run a call on a device without data, where reading anything on the host would raise."""
    monkeypatch.setenv(VARIABLE, "1")
    register()
    sizes = {"num_experts": 64, "num_local_experts": 64, "experts_per_token": 8, "hidden_dim": 2048}
    config = layer(device="meta", **sizes, intermediate_size_per_partition=768, in_dtype=torch.bfloat16)
    experts = vllm.select(engine[ORACLE], config)(config, vllm.FusedMoEQuantConfig())
    tensors = Tensors(
        x=torch.empty(T, 2048, dtype=torch.bfloat16, device="meta"),
        w1=torch.empty(64, 1536, 2048, dtype=torch.bfloat16, device="meta"),
        w2=torch.empty(64, 2048, 768, dtype=torch.bfloat16, device="meta"),
        gates=torch.empty(T, 8, device="meta"),
        ids=torch.empty(T, 8, dtype=torch.int32, device="meta"),
    )
    expert_map = torch.empty(64, dtype=torch.int32, device="meta")
    with recording() as launches, Reserved() as reserved:
        assert tensors.run(experts, expert_map=expert_map).shape == (T, 2048)
    assert len(launches) >= 3
    assert experts.moebench_refusal is None
    assert TritonExperts.calls == 0
    first, second, output = TritonExperts.workspace_shapes(experts, T, 1536, 2048, 8, 64, 64, None, config.activation)
    theirs = config.in_dtype.itemsize * (max(math.prod(first), math.prod(output)) + math.prod(second))
    assert reserved.size < theirs


def test_kernels_that_wait_for_the_device_are_refused_there(
    engine: dict[str, ModuleType], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "vllm.moebench")
    monkeypatch.setenv(VARIABLE, "grouped")
    register()
    config = layer(device="meta")
    experts = vllm.select(engine[ORACLE], config)(config, vllm.FusedMoEQuantConfig())
    assert "grouped waits for the device, which a CUDA graph cannot record" in str(experts.moebench_refusal)


def test_no_workspace_is_asked_for_but_the_output(select: Select) -> None:
    config = layer()
    experts = select(config)(config, vllm.FusedMoEQuantConfig())
    assert experts.workspace_shapes(5, 48, 16, 2, 6, 6, None, config.activation) == ((0,), (0,), (5, 16))


# Another version of vLLM, or none.


def renamed(_: dict[str, ModuleType], monkeypatch: pytest.MonkeyPatch) -> None:
    def apply(self: Any, output: torch.Tensor, x: torch.Tensor) -> None: ...

    monkeypatch.setattr(TritonExperts, "apply", apply)


def without_backend(made: dict[str, ModuleType], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(made[ORACLE], "UnquantizedMoeBackend")


def without_module(_: dict[str, ModuleType], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, ORACLE, None)


def with_another_number(made: dict[str, ModuleType], monkeypatch: pytest.MonkeyPatch) -> None:
    field: list[Any] = [("gamma", float, 0.0)]
    numbers = make_dataclass("Numbers", field, bases=(vllm.ApplyMoEActivationConfig,), frozen=True)
    monkeypatch.setattr(made[f"{vllm.ROOT}.activation"], "ApplyMoEActivationConfig", numbers)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (renamed, "TritonExperts.apply has other parameters"),
        (without_backend, "has no attribute 'UnquantizedMoeBackend'"),
        (without_module, ORACLE),
        (with_another_number, "activations have other numbers (gamma)"),
    ],
)
def test_another_interface_is_one_line_and_vllms_own_class(
    change: Callable[[dict[str, ModuleType], pytest.MonkeyPatch], None],
    said: str,
    engine: dict[str, ModuleType],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    change(engine, monkeypatch)
    monkeypatch.setenv(VARIABLE, "1")
    register()
    (line,) = [record.getMessage() for record in caplog.records]
    assert line.startswith("moebench is off, and vLLM's own experts run: vLLM of an unknown version is not as 0.33.0")
    assert said in line
    assert engine[ORACLE].backend_to_kernel_cls is vllm.backend_to_kernel_cls


def test_a_value_that_is_no_kernel_is_one_line(
    engine: dict[str, ModuleType], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv(VARIABLE, "triton_scater")
    register()
    assert "no kernel is named 'triton_scater': did you mean triton_scatter" in caplog.text
    assert engine[ORACLE].backend_to_kernel_cls is vllm.backend_to_kernel_cls


@pytest.mark.usefixtures("engine")
def test_the_double_has_the_interface_that_was_read() -> None:
    assert list(differences(VllmParts.of_installed())) == []
    assert READ.partition(",")[0] in (vllm.__doc__ or "")


@pytest.mark.skipif(not is_installed("vllm"), reason="needs vLLM")
def test_the_installed_vllm_has_the_interface_that_was_read() -> None:
    assert list(differences(VllmParts.of_installed())) == []
