"""The adapters to other projects: what they refuse, and that they convert layouts correctly.

None of the projects is installed where these tests must pass. Each is emulated by the few functions that its adapter
calls, written from their documented signatures, layouts and checks, in plain differentiable torch on the CPU.
"""

from __future__ import annotations

import ast
import dataclasses
import gc
import importlib.util
import math
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from moebench.execution.trial.checks.accuracy import errors, verdict
from moebench.execution.trial.reference_check import call
from moebench.kernels.catalog import KERNELS
from moebench.kernels.hardware.device_limits import assuming
from moebench.kernels.hardware.gpus import HARDWARE
from moebench.kernels.implementations import _peer
from moebench.kernels.implementations._peer import Adapter, Once, Peer
from moebench.kernels.implementations._transformers import TransformersExperts
from moebench.kernels.oracle import reference
from moebench.kernels.problem import Problem
from moebench.kernels.problem.tensors import Inputs, draw_inputs, draw_weights

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
# Small enough that float32 in the emulation is exact to the bound; refusals of the real packages are not tested here.
BASE = Problem(T=37, D=48, F=32, E=6, K=2)
TRAIN = BASE.replace(mode="train")
PACKAGES = {
    "deep_gemm": "deep_gemm",
    "megablocks": "megablocks",
    "scattermoe": "scattermoe",
    "sonicmoe": "sonicmoe",
    "triton_kernels_moe": "triton_kernels",
    "vllm_fused_moe": "vllm",
}

Fake = Callable[..., None]


def peer(name: str) -> Peer:
    kernel = KERNELS.load(name)
    assert isinstance(kernel, Peer)
    return kernel


def draw(problem: Problem) -> Inputs:
    inputs = draw_inputs(problem, draw_weights(problem, seed=0, device=CPU), seed=1, device=CPU)
    return inputs.requires_grad_() if problem.mode == "train" else inputs


def assert_right(kernel: Peer, problem: Problem) -> None:
    inputs = draw(problem)
    before = inputs.clone()
    layer = kernel.build(problem, {}, CPU)
    for _ in range(2):  # the second call finds the weights converted
        assert verdict(errors(call(problem, layer, inputs), reference(problem, inputs)), problem.dtype) is None
    for name, tensor in inputs.differentiable().items():
        assert torch.equal(tensor, before.differentiable()[name]), f"it wrote to {name}"


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Iterator[Fake]:
    """Install a module with some attributes, and its parent packages, where imports look first."""

    def put(name: str, **attributes: object) -> None:
        parent, _, stem = name.rpartition(".")
        if parent and parent not in sys.modules:
            put(parent)
        module = ModuleType(name)
        module.__spec__ = ModuleSpec(name, None)
        for attribute, value in attributes.items():
            setattr(module, attribute, value)
        monkeypatch.setitem(sys.modules, name, module)
        if parent:
            monkeypatch.setattr(sys.modules[parent], stem, module, raising=False)

    _peer._broken.cache_clear()
    yield put
    _peer._broken.cache_clear()


@pytest.fixture
def hopper(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda *_: (9, 0))


# Refusals.


@pytest.mark.parametrize(("name", "package"), PACKAGES.items())
@pytest.mark.parametrize("device", [CPU, CUDA], ids=str)
def test_an_absent_package_is_named_with_the_remedy(name: str, package: str, device: torch.device) -> None:
    """The package is named for every device, before any lack of the device or the problem."""
    if importlib.util.find_spec(package):
        pytest.skip(f"{package} is installed")
    reason = peer(name).supports(BASE.replace(T=0), device)
    assert reason
    assert reason.startswith(f"{package} is not installed; pip install")


@pytest.mark.parametrize("name", PACKAGES)
def test_a_package_is_not_imported_to_be_looked_for(name: str, fake: Fake) -> None:
    """No package is imported without a CUDA device either: the empty modules here would fail at once."""
    for module in peer(name).modules:
        fake(module.partition(".")[0])
    reason = peer(name).supports(BASE, CPU)
    assert reason == f"{name} needs a CUDA device, not cpu; run it on a machine with one"


@pytest.mark.parametrize("name", PACKAGES)
def test_too_old_a_device_is_refused_with_both_versions(name: str, fake: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in peer(name).modules:
        fake(module.partition(".")[0])
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda *_: (7, 5))
    wanted = "9.0" if name in ("deep_gemm", "sonicmoe") else "8.0"
    assert peer(name).supports(BASE, CUDA) == f"{name} needs compute capability {wanted}, the device has 7.5"


@pytest.mark.usefixtures("hopper")
def test_an_import_that_fails_is_a_reason(fake: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    """An example is a package of another author with the same name: it has no ``matmul``."""
    monkeypatch.delitem(sys.modules, "triton_kernels.matmul", raising=False)
    fake("triton_kernels")
    reason = peer("triton_kernels_moe").supports(BASE, CUDA)
    assert reason
    assert reason.startswith("triton_kernels.matmul is installed and cannot be imported (ModuleNotFoundError: ")
    assert reason.endswith(peer("triton_kernels_moe").remedy)


@pytest.mark.usefixtures("hopper")
def test_with_package_and_device_the_problem_decides(fake: Fake) -> None:
    fake("scattermoe")
    kernel = peer("scattermoe")
    assert kernel.supports(BASE.replace(dtype="bfloat16"), CUDA) is None
    assert kernel.supports(BASE, CUDA) == (
        "scattermoe takes dtype float16 or bfloat16, the problem has dtype = float32"
    )


FITTING = BASE.replace(dtype="bfloat16", D=64, F=128)


@pytest.mark.parametrize("name", PACKAGES)
def test_a_plain_forward_in_bfloat16_is_taken_by_all(name: str) -> None:
    assert peer(name).refuses(FITTING) is None


@pytest.mark.parametrize(
    ("changes", "refusing"),
    [
        ({"dtype": "float32"}, set(PACKAGES)),
        ({"T": 0}, set(PACKAGES)),
        ({"ranks": 2}, set(PACKAGES)),
        ({"capacity_factor": 1.25}, set(PACKAGES)),
        ({"dtype": "float16"}, {"deep_gemm", "megablocks"}),
        ({"bias": True}, {"deep_gemm", "megablocks", "vllm_fused_moe"}),
        ({"mode": "train"}, {"deep_gemm", "triton_kernels_moe", "vllm_fused_moe"}),
        ({"gated": False}, {"sonicmoe", "triton_kernels_moe", "vllm_fused_moe"}),
        ({"activation": "gelu"}, {"sonicmoe", "triton_kernels_moe", "vllm_fused_moe"}),
        ({"activation": "gelu_tanh"}, {"sonicmoe", "triton_kernels_moe", "vllm_fused_moe"}),
        ({"activation": "swiglu_oai"}, {"megablocks", "sonicmoe", "triton_kernels_moe", "vllm_fused_moe"}),
        ({"D": 100}, {"deep_gemm", "megablocks", "sonicmoe"}),
        ({"F": 36}, {"deep_gemm", "megablocks", "sonicmoe"}),
        ({"F": 16}, {"deep_gemm", "megablocks"}),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else "-".join(sorted(value)),
)
def test_a_refusal_gives_field_and_value(changes: dict[str, Any], refusing: set[str]) -> None:
    found = {name: peer(name).refuses(FITTING.replace(**changes)) for name in PACKAGES}
    assert {name for name, reason in found.items() if reason} == refusing
    ((field, value),) = changes.items()
    assert all(reason is None or f"{field} = {value}" in reason for reason in found.values())


# Packages that are there and fail, on a path where imports look.

FAILURES = {
    "ImportError": "raise ImportError('libcudart.so.12: cannot open shared object file')",
    "RuntimeError": "raise RuntimeError('built for another torch\\nsecond line')",
    "OSError": "raise OSError('undefined symbol')",
    "AttributeError": "import os; os.no_such_name",
    "AssertionError": "assert None is not None",
    "SystemExit": "raise SystemExit(1)",
    "Panic": "class Panic(BaseException): pass\nraise Panic('of an extension in Rust')",
    "Unprintable": "class Unprintable(Exception):\n  def __str__(self): return 1 / 0\nraise Unprintable",
    "ModuleNotFoundError": "import a_package_that_it_needs",
}


@pytest.mark.usefixtures("hopper")
@pytest.mark.parametrize("failure", FAILURES)
def test_a_package_may_fail_in_any_way(
    failure: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The kernel refuses in one sentence, and nothing that the package prints gets into the output of a command."""
    absent = [name for name, package in PACKAGES.items() if not importlib.util.find_spec(package)]
    for package in {module.partition(".")[0] for name in absent for module in peer(name).modules}:
        (tmp_path / package).mkdir()
        (tmp_path / package / "__init__.py").write_text(f"print('hello')\n{FAILURES[failure]}\n")
    monkeypatch.syspath_prepend(tmp_path)
    _peer._broken.cache_clear()
    try:
        reasons = {name: peer(name).supports(FITTING, CUDA) or "" for name in absent}
    finally:
        _peer._broken.cache_clear()
    for name, reason in reasons.items():
        assert f"is installed and cannot be imported ({failure}: " in reason
        assert reason.endswith(f"; {peer(name).remedy}")
        assert "\n" not in reason
    assert capsys.readouterr().out == ""


@pytest.mark.usefixtures("hopper")
def test_who_interrupts_an_import_is_heard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "deep_gemm.py").write_text("raise KeyboardInterrupt")
    monkeypatch.syspath_prepend(tmp_path)
    _peer._broken.cache_clear()
    with pytest.raises(KeyboardInterrupt):
        peer("deep_gemm").supports(FITTING, CUDA)


# Releases that the adapters were written from.


def adapters() -> list[Adapter]:
    return [kernel for kernel in map(KERNELS.load, KERNELS.names()) if isinstance(kernel, Adapter)]


def test_every_kernel_of_another_project_names_the_release_it_was_read_against() -> None:
    assert {kernel.name for kernel in adapters()} == {
        kernel.name for kernel in map(KERNELS.load, KERNELS.names()) if kernel.family == "peer"
    }
    for kernel in adapters():
        release = kernel.read_against
        assert release.distribution
        assert release.version[0].isdigit()
        assert release.source.endswith((".py", ".hpp"))


def test_the_interface_of_transformers_is_the_one_that_was_read() -> None:
    """The sources of an installed transformers have the functions, parameters and names that the adapter uses."""
    found = importlib.util.find_spec("transformers")
    if found is None or found.origin is None:
        pytest.skip("transformers is not installed")
    root = Path(found.origin).parent
    moe = ast.parse((root / "integrations/moe.py").read_text())
    mixtral = ast.parse((root / "models/mixtral/modeling_mixtral.py").read_text())
    parameters = {
        node.name: [argument.arg for argument in node.args.args]
        for tree in (moe, *(node for node in mixtral.body if getattr(node, "name", "") == "MixtralExperts"))
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef)
    }
    for function in ("batched_mm_experts_forward", "grouped_mm_experts_forward", "forward"):
        assert parameters[function] == ["self", "hidden_states", "top_k_index", "top_k_weights"]
    (names,) = (
        {key.value for key in node.value.keys if isinstance(key, ast.Constant)}
        for node in ast.walk(moe)
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Dict) and "_global_mapping" in ast.dump(node)
    )
    ours = {kernel.implementation for kernel in adapters() if isinstance(kernel, TransformersExperts)}
    assert ours == {"eager", "batched_mm", "grouped_mm"}
    assert ours - {"eager"} <= names


# Weights in the layout of a peer.


def test_a_weight_is_loaded_once_for_each_state_and_forgotten_with_it() -> None:
    made: list[Tensor] = []

    def load(weight: Tensor) -> Tensor:
        made.append(weight)
        return weight * 2

    once, weight, other = Once(load), torch.ones(3), torch.ones(3)
    assert once(weight) is once(weight)
    assert len(made) == 1
    once(other)
    assert len(made) == 2, "an equal weight in other memory is another one"
    weight += 1
    assert once(weight).tolist() == [4, 4, 4], "written to, it is loaded anew"
    del weight
    gc.collect()
    assert len(once._kept) == 1


# Emulations. Shapes are written out as the projects document them, so that a wrong layout cannot pass.


def flatten_sort_count(expert_idxs: Tensor, num_experts: int) -> tuple[Tensor, Tensor, Tensor]:
    """Emulate scattermoe: return sorted ids, the flat position of each, and the end of each expert."""
    assert expert_idxs.dtype == torch.int64
    ids, order = torch.sort(expert_idxs.flatten())
    return ids, order, torch.bincount(ids, minlength=num_experts).cumsum(0)


def parallel_linear(
    inputs: Tensor,
    expert_weights: Tensor,
    k: int,
    sorted_expert_idxs: Tensor,
    sorted_scattered_idxs: Tensor,
    expert_offsets: Tensor,
    expert_biases: Tensor | None = None,
    gates: Tensor | None = None,
    grouped_in: bool = False,
    grouped_out: bool = False,
) -> Tensor:
    """Emulate scattermoe: weights (E, in, out); rows in expert order when grouped, else in token order."""
    assert expert_weights.shape[1] == inputs.shape[1]
    assert sorted_scattered_idxs.numel() == inputs.shape[0] * k
    assert expert_offsets[-1] == sorted_scattered_idxs.numel()
    rows = inputs if grouped_in else inputs[sorted_scattered_idxs // k]
    out = torch.einsum("ni,nio->no", rows, expert_weights[sorted_expert_idxs])
    if expert_biases is not None:
        out = out + expert_biases[sorted_expert_idxs]
    if grouped_out:
        return out
    out = torch.zeros_like(out).index_copy(0, sorted_scattered_idxs, out)
    if gates is None:
        return out
    assert gates.dtype == inputs.dtype
    return torch.einsum("tk,tko->to", gates, out.view(*gates.shape, -1))


ACTIVATIONS = [(gated, activation) for gated in (True, False) for activation in ("silu", "gelu", "relu")]


@pytest.mark.parametrize(("gated", "activation"), ACTIVATIONS)
@pytest.mark.parametrize("changes", [{}, {"bias": True, "K": 1}, {"K": 6, "load": "hot"}], ids=str)
def test_scattermoe(gated: bool, activation: str, changes: dict[str, Any], fake: Fake) -> None:
    fake("scattermoe", flatten_sort_count=flatten_sort_count, parallel_linear=parallel_linear)
    problem = TRAIN.replace(gated=gated, activation=activation, **changes)
    assert_right(peer("scattermoe"), problem)
    assert_right(peer("scattermoe"), problem.replace(mode="forward"))


class FusedMoe:
    """Fake of vLLM's module: w1 (E, 2F, D) with gate rows first, w2 (E, D, F); the set tiles hold during a call."""

    def __init__(self) -> None:
        self.tiles: dict[str, int] | None = None
        self.used: list[dict[str, int] | None] = []

    @contextmanager
    def override_config(self, config: dict[str, int] | None) -> Iterator[None]:
        """Emulate vLLM: the earlier setting comes back at the end, but not after an error."""
        before, self.tiles = self.tiles, config
        yield
        self.tiles = before

    def fused_experts(
        self,
        hidden_states: Tensor,
        w1: Tensor,
        w2: Tensor,
        topk_weights: Tensor,
        topk_ids: Tensor,
        inplace: bool = False,
        activation: str = "silu",
    ) -> Tensor:
        assert hidden_states.is_contiguous()
        assert w1.stride(-1) == w2.stride(-1) == 1
        assert (topk_weights.dtype, topk_ids.dtype) == (torch.float32, torch.int32)
        assert (inplace, activation) == (False, "silu")
        self.used.append(dict(self.tiles) if self.tiles else None)
        if self.tiles and self.tiles["num_stages"] > 8:
            raise RuntimeError("out of resource: shared memory")
        out = torch.zeros_like(hidden_states)
        for k in range(topk_ids.shape[1]):
            gate, up = torch.einsum("td,tud->tu", hidden_states, w1[topk_ids[:, k]]).chunk(2, dim=1)
            rows = torch.einsum("tf,tdf->td", functional.silu(gate) * up, w2[topk_ids[:, k]])
            out += topk_weights[:, k, None] * rows
        return out


@pytest.fixture
def fused_moe(fake: Fake) -> FusedMoe:
    found = FusedMoe()
    fake(
        "vllm.model_executor.layers.fused_moe",
        fused_experts=found.fused_experts,
        override_config=found.override_config,
    )
    return found


@pytest.mark.parametrize("chosen", [1, 2, 6])
def test_vllm_fused_moe(chosen: int, fused_moe: FusedMoe) -> None:
    assert_right(peer("vllm_fused_moe"), BASE.replace(K=chosen))
    assert fused_moe.used == [None, None], "left alone it takes its own tiles"


TILES = {
    "BLOCK_SIZE_M": 16,
    "BLOCK_SIZE_N": 64,
    "BLOCK_SIZE_K": 64,
    "GROUP_SIZE_M": 1,
    "num_warps": 4,
    "num_stages": 3,
}


def test_vllm_takes_the_tiles_of_a_configuration_for_each_call(fused_moe: FusedMoe) -> None:
    kernel, inputs = peer("vllm_fused_moe"), draw(BASE)
    default, *_ = kernel.space(BASE, CPU)
    with_tiles, alone = kernel.build(BASE, TILES, CPU), kernel.build(BASE, default, CPU)
    for layer in (with_tiles, alone, with_tiles):
        assert verdict(errors(call(BASE, layer, inputs), reference(BASE, inputs)), BASE.dtype) is None
    assert fused_moe.used == [TILES, None, TILES]
    assert fused_moe.tiles is None


def test_vllm_does_not_keep_the_tiles_of_a_call_that_failed(fused_moe: FusedMoe) -> None:
    """vLLM's context does not restore the earlier tiles: the next layer without tiles must not run with them."""
    kernel, inputs = peer("vllm_fused_moe"), draw(BASE)
    with pytest.raises(RuntimeError, match="out of resource"):
        call(BASE, kernel.build(BASE, TILES | {"num_stages": 9}, CPU), inputs)
    call(BASE, kernel.build(BASE, kernel.space(BASE, CPU)[0], CPU), inputs)
    assert fused_moe.used[-1] is None


@pytest.mark.parametrize("target", HARDWARE)
def test_the_space_of_vllm_is_its_own_choice_and_tiles_that_fit(target: str) -> None:
    kernel, problem = peer("vllm_fused_moe"), Problem(T=64, D=2048, F=768, E=128, K=8, dtype="bfloat16")
    with assuming(HARDWARE[target]):
        default, *tiles = kernel.space(problem, CPU)
        reasons = [kernel.fault(problem, config, CPU) for config in tiles]
        assert kernel.fault(problem, default, CPU) is None
    assert set(default.values()) == {0}
    assert all(config.keys() == default.keys() for config in tiles)
    built = [config for config, reason in zip(tiles, reasons, strict=True) if reason is None]
    assert max(int(config["BLOCK_SIZE_M"]) for config in built) == 64, "an expert gets 64 rows at most"
    assert 100 < len(built) < len(tiles)
    assert any("shared memory of" in reason for reason in reasons if reason)


class FakeDeepGemm:
    """Fake of deep_gemm: weights (E, out, in); a row's expert is its aligned block's, −1 for rows left unwritten.

    Shapes, checks and the layout of rows are those of `m_grouped_bf16_gemm_nt_contiguous` in csrc/apis/gemm.hpp and of
    `generate_m_grouped_contiguous` in tests/generators.py of deepseek-ai/DeepGEMM, commit 54e2261.
    """

    def __init__(self, alignment: int) -> None:
        self.alignment = alignment

    def get_mk_alignment_for_contiguous_layout(self) -> int:
        return self.alignment

    def m_grouped_bf16_gemm_nt_contiguous(self, a: Tensor, b: Tensor, d: Tensor, grouped_layout: Tensor) -> None:
        assert a.shape == (len(d), b.shape[2])
        assert d.shape[1] == b.shape[1]
        assert a.stride(-1) == b.stride(-1) == d.stride(-1) == 1
        assert grouped_layout.dtype == torch.int32
        assert grouped_layout.shape == (len(a),)
        d.fill_(math.nan)
        for first in range(0, len(a), self.alignment):
            block = slice(first, first + self.alignment)
            kept = grouped_layout[block] >= 0
            if bool(kept[0]):
                assert grouped_layout[block][kept].unique().numel() == 1, "two experts share a block"
                assert bool((kept.int().diff() <= 0).all()), "padding before rows"
                rows = torch.arange(len(a))[block][kept]
                d[rows] = a[rows] @ b[grouped_layout[first]].T
            else:
                assert not bool(kept.any()), "a block of padding is skipped"


@pytest.mark.parametrize("alignment", [1, 16, 128])
@pytest.mark.parametrize(
    "changes",
    [{}, {"K": 1, "gated": False}, {"K": 6}, {"load": "hot", "activation": "swiglu_oai"}, {"T": 1}, {"E": 1, "K": 1}],
    ids=str,
)
def test_deep_gemm(changes: dict[str, Any], alignment: int, fake: Fake) -> None:
    own = FakeDeepGemm(alignment)
    fake(
        "deep_gemm",
        get_mk_alignment_for_contiguous_layout=own.get_mk_alignment_for_contiguous_layout,
        m_grouped_bf16_gemm_nt_contiguous=own.m_grouped_bf16_gemm_nt_contiguous,
    )
    assert_right(peer("deep_gemm"), BASE.replace(**changes))


def test_deep_gemm_counts_what_its_alignment_pads() -> None:
    problem = FITTING.replace(T=300, E=3, K=1, load="hot")
    routing = dataclasses.replace(
        draw(problem).routing, ids_TK=torch.tensor([0] * 129 + [2] * 171, dtype=torch.int32)[:, None]
    )
    cost = peer("deep_gemm").cost(problem, {}, routing)
    assert cost.executed_rows == 256 + 256
    assert cost.workspace_bytes == 640 * (2 * 128 + 2 * 128) * 2


@pytest.mark.parametrize("capability", [(9, 0), (10, 0), (10, 3), (12, 0)])
def test_deep_gemm_has_kernels_for_two_architectures(
    capability: tuple[int, int], fake: Fake, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake("deep_gemm")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda *_: capability)
    reason = peer("deep_gemm").supports(FITTING, CUDA)
    assert (reason is None) == (capability[0] < 11)
    assert reason is None or reason.endswith("has kernels for compute capability 9 and 10, the device has 12")


def moe_general_routing_inputs(
    x: Tensor,
    router_scores: Tensor,
    token_indices: Tensor,
    expert_indices: Tensor,
    w1: Tensor,
    b1: Tensor | None,
    w2: Tensor,
    b2: Tensor | None,
    E: int,
    stream_id: int,
    activation_type: str,
    is_inference_mode_enabled: bool = False,
    concat_layout: bool = False,
) -> tuple[Tensor, Tensor]:
    """Emulate sonicmoe: w1 (2F, D, E), w2 (D, F, E) with strides of (E, 2F, D), (E, D, F); tokens ascending."""
    assert (activation_type, type(stream_id)) == ("swiglu", int)
    assert token_indices.dtype == expert_indices.dtype == torch.int32
    assert router_scores.dtype == torch.float32
    assert bool((token_indices.diff() >= 0).all())
    assert w1.permute(2, 0, 1).is_contiguous()
    assert w2.permute(2, 0, 1).is_contiguous()
    assert E == w1.shape[2] == w2.shape[2]
    assert is_inference_mode_enabled != w1.requires_grad
    h = torch.einsum("nd,udn->nu", x[token_indices], w1[:, :, expert_indices])
    h = h if b1 is None else h + b1[expert_indices]
    gate, up = h.chunk(2, dim=1) if concat_layout else (h[:, ::2], h[:, 1::2])
    y = torch.einsum("nf,dfn->nd", functional.silu(gate) * up, w2[:, :, expert_indices])
    y = y if b2 is None else y + b2[expert_indices]
    return torch.zeros_like(x).index_add(0, token_indices, y * router_scores[:, None]), torch.bincount(expert_indices)


@pytest.mark.parametrize("changes", [{}, {"bias": True, "K": 1}, {"K": 6}], ids=str)
def test_sonicmoe(changes: dict[str, Any], fake: Fake) -> None:
    fake("sonicmoe", moe_general_routing_inputs=moe_general_routing_inputs)
    fake("sonicmoe.enums", ActivationType=type("ActivationType", (), {"SWIGLU": "swiglu"}))
    assert_right(peer("sonicmoe"), TRAIN.replace(**changes))
    assert_right(peer("sonicmoe"), BASE.replace(**changes))


@dataclasses.dataclass
class Arguments:
    """Fake of megablocks' arguments that matter here, with its own defaults where a wrong one would do harm."""

    hidden_size: int
    ffn_hidden_size: int
    moe_num_experts: int
    moe_top_k: int
    activation_fn: Callable[[Tensor], Tensor]
    mlp_type: str = "mlp"
    mlp_impl: str = "sparse"
    moe_loss_weight: float = 0.1
    bias: bool = True
    fp16: bool = True
    bf16: bool = False
    device: torch.device = CPU

    def __post_init__(self) -> None:
        assert self.mlp_impl == "grouped", "sparse is refused with Triton 3.2 and later"
        assert not self.bias
        assert not self.moe_loss_weight
        assert (self.fp16, self.bf16) == (False, True)


class GroupedMLP(nn.Module):
    """Fake of megablocks' GroupedMLP: every weight is (E * F, D), contiguous for the products; a GLU has v1."""

    def __init__(self, args: Arguments) -> None:
        super().__init__()
        self.args = args
        for name in ("w1", "w2") if args.mlp_type == "mlp" else ("w1", "v1", "w2"):
            shape = (args.moe_num_experts * args.ffn_hidden_size, args.hidden_size)
            self.register_parameter(name, nn.Parameter(torch.empty(shape, device=args.device)))

    def forward(self, x: Tensor, tokens_per_expert: Tensor) -> Tensor:
        args, counts, done = self.args, tokens_per_expert.tolist(), []
        weights = {name: self._experts(name) for name in dict(self.named_parameters())}
        for e, rows in enumerate(x.split(counts)):
            h = args.activation_fn(rows @ weights["w1"][e].T)
            h = h * (rows @ weights["v1"][e].T) if "v1" in weights else h
            done.append(h @ weights["w2"][e])
        return torch.cat(done)

    def _experts(self, name: str) -> Tensor:
        weight: Tensor = getattr(self, name)
        assert weight.is_contiguous()
        return weight.view(self.args.moe_num_experts, -1, self.args.hidden_size)


class ParallelDroplessMLP(nn.Module):
    """Fake of megablocks' layer: gather in expert order, `GroupedMLP`, scatter with the expert weights."""

    def __init__(self, args: Arguments) -> None:
        super().__init__()
        math.log2(args.ffn_hidden_size * args.moe_num_experts // 128)
        self.args = args
        self.mlp = GroupedMLP(args)

    def forward(self, x: Tensor, scores: Tensor | None, expert_weights: Tensor, top_experts: Tensor) -> Tensor:
        bins, indices = torch.sort(top_experts.flatten().int())
        counts = torch.bincount(bins, minlength=self.args.moe_num_experts)
        token = indices // self.args.moe_top_k
        rows = self.mlp(x[token], counts) * expert_weights.flatten()[indices, None]
        return torch.zeros_like(x).index_add(0, token, rows)


@pytest.mark.parametrize(("gated", "activation"), ACTIVATIONS)
@pytest.mark.parametrize("changes", [{}, {"E": 1, "K": 1, "F": 128}, {"load": "hot"}], ids=str)
def test_megablocks(gated: bool, activation: str, changes: dict[str, Any], fake: Fake) -> None:
    fake("megablocks.layers.arguments", Arguments=Arguments)
    fake("megablocks.layers.dmoe", ParallelDroplessMLP=ParallelDroplessMLP)
    problem = TRAIN.replace(gated=gated, activation=activation, **changes)
    assert_right(peer("megablocks"), problem)
    assert_right(peer("megablocks"), problem.replace(mode="forward"))


def test_megablocks_sees_a_weight_that_was_stepped(fake: Fake) -> None:
    """An optimiser writes to weights in place: the converted ones must not be those of the step before."""
    fake("megablocks.layers.arguments", Arguments=Arguments)
    fake("megablocks.layers.dmoe", ParallelDroplessMLP=ParallelDroplessMLP)
    inputs, layer = draw(TRAIN), peer("megablocks").build(TRAIN, {}, CPU)
    call(TRAIN, layer, inputs)
    with torch.no_grad():
        inputs.weights.w_up_EUD.mul_(-1)
        inputs.weights.w_down_EDF.add_(1)
    assert verdict(errors(call(TRAIN, layer, inputs), reference(TRAIN, inputs)), TRAIN.dtype) is None


@dataclasses.dataclass
class FnSpecs:
    """Fake of triton_kernels' device function: its name, and the factor by which it reduces the width."""

    name: str
    fn: Callable[..., Tensor]
    fn_arg_names: tuple[str, ...]
    reduction_n: int = 1


@dataclasses.dataclass
class FusedActivation:
    """Fake of triton_kernels' fused activation: a function and its arguments."""

    specs: FnSpecs
    fn_args: tuple[float, ...]


def swiglu_fn(rows: Tensor, alpha: float, limit: float) -> Tensor:
    """Emulate triton_kernels: gate and linear columns alternate, and one is added to the linear ones."""
    gate, linear = rows[:, ::2].clamp(max=limit), rows[:, 1::2].clamp(-limit, limit)
    return gate * torch.sigmoid(alpha * gate) * (linear + 1)


@dataclasses.dataclass
class Ragged:
    """Fake of triton_kernels' ragged metadata: the rows of each slice."""

    slice_sizes: Tensor


def make_ragged_tensor_metadata(slice_sizes: Tensor, n_total_rows: int) -> Ragged:
    assert slice_sizes.dtype == torch.int32
    assert int(slice_sizes.sum()) == n_total_rows
    return Ragged(slice_sizes)


def ragged_matmul(
    a: Tensor,
    b: Tensor,
    bias: Tensor | None,
    a_ragged_metadata: Ragged,
    gather_indx: Tensor | None = None,
    scatter_indx: Tensor | None = None,
    gammas: Tensor | None = None,
    fused_activation: FusedActivation | None = None,
) -> Tensor:
    """Emulate triton_kernels: b (E, in, out), bias (E, out), gammas float32; row i is a[gather_indx[i]]."""
    assert bias is None or (bias.dtype == torch.float32 and bias.stride(-1) == 1)
    expert = torch.repeat_interleave(a_ragged_metadata.slice_sizes)
    for index in (gather_indx, scatter_indx):
        assert index is None or index.dtype == torch.int32
    rows = torch.einsum("ni,nio->no", a if gather_indx is None else a[gather_indx], b[expert])
    rows = rows if bias is None else rows + bias[expert]
    if fused_activation is not None:
        assert fused_activation.specs.fn_arg_names == ("alpha", "limit")
        rows = fused_activation.specs.fn(rows, *fused_activation.fn_args)
    rows = rows if gammas is None else rows * gammas[:, None]
    return rows if scatter_indx is None else torch.full_like(rows, math.nan).index_copy(0, scatter_indx.long(), rows)


@pytest.mark.parametrize("changes", [{}, {"bias": True, "K": 1}, {"K": 6}, {"load": "empty:0.5"}], ids=str)
def test_triton_kernels_moe(changes: dict[str, Any], fake: Fake) -> None:
    fake("triton_kernels.matmul", matmul=ragged_matmul, FnSpecs=FnSpecs, FusedActivation=FusedActivation)
    fake("triton_kernels.reduce", reduce=lambda x, dim: (x.sum(dim), None))
    fake("triton_kernels.swiglu", swiglu_fn=swiglu_fn)
    fake("triton_kernels.tensor", make_ragged_tensor_metadata=make_ragged_tensor_metadata)
    assert_right(peer("triton_kernels_moe"), BASE.replace(**changes))
