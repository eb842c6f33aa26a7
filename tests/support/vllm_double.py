"""Double of the part of vLLM that its experts are called through, in own words, for tests on a CPU.

It follows vllm-project/vllm 0.33.0 (commit 4ba787ec9), vllm/model_executor/layers/fused_moe: modular_kernel.py
(FusedMoEExperts, FusedMoEExpertsModular, FusedMoEKernelModularImpl), experts/triton_moe.py (TritonExperts), config.py,
activation.py, oracle/unquantized.py and prepare_finalize/no_dp_ep.py. Names, parameters and the order of calls are
theirs; the mathematics is a loop over tokens.
"""

from __future__ import annotations

import enum
import types
from collections.abc import Callable
from dataclasses import dataclass, field
from math import prod
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

ROOT = "vllm.model_executor.layers.fused_moe"


class MoEActivation(enum.Enum):
    """Activations by their names; those of ``no_mul`` have no gates."""

    SILU = "silu"
    GELU = "gelu"
    GELU_TANH = "gelu_tanh"
    RELU2 = "relu2"
    SWIGLUOAI = "swigluoai"
    SITU = "situ"
    SWIGLUOAI_UNINTERLEAVE = "swigluoai_uninterleave"
    SWIGLUSTEP = "swiglustep"
    SILU_NO_MUL = "silu_no_mul"
    GELU_NO_MUL = "gelu_no_mul"
    GELU_TANH_NO_MUL = "gelu_tanh_no_mul"
    RELU2_NO_MUL = "relu2_no_mul"

    @property
    def is_gated(self) -> bool:
        return not self.value.endswith("_no_mul")


@dataclass(frozen=True)
class ApplyMoEActivationConfig:
    clamp_limit: float | None = None
    alpha: float = 1.0
    beta: float = 0.0
    activation_situ_beta: float | None = None
    activation_situ_linear_beta: float | None = None


class FusedMoEActivationFormat(enum.Enum):
    Standard = ("standard",)
    BatchedExperts = ("batched_experts",)


@dataclass
class FusedMoEParallelConfig:
    tp_size: int = 1
    dp_size: int = 1
    ep_size: int = 1
    use_ep: bool = False
    all2all_backend: str = "allgather_reducescatter"
    enable_eplb: bool = False

    @property
    def use_all2all_kernels(self) -> bool:
        return self.use_ep and self.dp_size > 1

    @property
    def use_ag_rs_all2all_kernels(self) -> bool:
        return self.use_all2all_kernels and self.all2all_backend == "allgather_reducescatter"


@dataclass
class FusedMoEConfig:
    num_experts: int
    experts_per_token: int
    hidden_dim: int
    intermediate_size_per_partition: int
    num_local_experts: int
    activation: MoEActivation = MoEActivation.SILU
    device: torch.device | str = "cpu"
    in_dtype: torch.dtype = torch.float32
    moe_parallel_config: FusedMoEParallelConfig = field(default_factory=FusedMoEParallelConfig)
    max_num_tokens: int = 64
    has_bias: bool = False
    is_lora_enabled: bool = False
    swiglu_limit: float | None = None
    swiglu_alpha: float | None = None
    swiglu_beta: float | None = None
    activation_situ_beta: float | None = None
    activation_situ_linear_beta: float | None = None

    @property
    def is_act_and_mul(self) -> bool:
        return self.activation.is_gated


@dataclass
class FusedMoEQuantConfig:
    w1_bias: Tensor | None = None
    w2_bias: Tensor | None = None
    w1_scale: Tensor | None = None
    w2_scale: Tensor | None = None


@dataclass
class Platform:
    """The platform, which tests change: ``kind`` is the accelerator, ``batch_invariant`` a variable of vLLM."""

    kind: str = "cuda"
    batch_invariant: bool = False

    def is_cuda_alike(self) -> bool:
        return self.kind in ("cuda", "rocm")


current_platform = Platform()


class FusedMoEExpertsModular:
    """The base of experts: the questions that decide whether a class serves a layer."""

    post_gemm2_hook: Any = None

    def __init__(self, moe_config: FusedMoEConfig, quant_config: FusedMoEQuantConfig) -> None:
        self.moe_config, self.quant_config = moe_config, quant_config
        self.activation_config = ApplyMoEActivationConfig(
            clamp_limit=moe_config.swiglu_limit,
            alpha=1.0 if moe_config.swiglu_alpha is None else moe_config.swiglu_alpha,
            beta=0.0 if moe_config.swiglu_beta is None else moe_config.swiglu_beta,
            activation_situ_beta=moe_config.activation_situ_beta,
            activation_situ_linear_beta=moe_config.activation_situ_linear_beta,
        )

    @staticmethod
    def is_supported_config(
        cls: Any,  # noqa: PLW0211  # as vLLM has it
        moe_config: Any,
        weight_key: Any,
        activation_key: Any,
        activation_format: Any,
    ) -> tuple[bool, str | None]:
        questions = {
            "current device": cls._supports_current_device(),
            "no act_and_mul MLP layer": moe_config.is_act_and_mul or cls._supports_no_act_and_mul(),
            f"{moe_config.activation} activation": cls._supports_activation(moe_config.activation),
            "quantization scheme": cls._supports_quant_scheme(weight_key, activation_key),
            "parallel config": cls._supports_parallel_config(moe_config.moe_parallel_config),
            "activation format": activation_format == cls.activation_format(),
            "batch invariance": not current_platform.batch_invariant or cls._supports_batch_invariance(),
            "LoRA": not moe_config.is_lora_enabled or cls.supports_lora(),
        }
        reasons = [f"kernel does not support {what}" for what, answer in questions.items() if not answer]
        return not reasons, next(iter(reasons), None)

    @property
    def w1_bias(self) -> Tensor | None:
        return self.quant_config.w1_bias

    @property
    def w2_bias(self) -> Tensor | None:
        return self.quant_config.w2_bias

    @property
    def w1_scale(self) -> Tensor | None:
        return self.quant_config.w1_scale

    @property
    def w2_scale(self) -> Tensor | None:
        return self.quant_config.w2_scale

    def workspace_dtype(self, act_dtype: torch.dtype) -> torch.dtype:
        return act_dtype

    def _uses_post_gemm2_hook(self, num_tokens: int) -> bool:
        return self.post_gemm2_hook is not None and num_tokens > 0


class TritonExperts(FusedMoEExpertsModular):
    """vLLM's own experts: a loop over tokens that uses its workspaces, and counts its calls."""

    calls = 0

    @staticmethod
    def activation_format() -> FusedMoEActivationFormat:
        return FusedMoEActivationFormat.Standard

    @staticmethod
    def supports_lora() -> bool:
        return True

    @staticmethod
    def _supports_current_device() -> bool:
        return current_platform.kind in ("cuda", "rocm", "xpu")

    @staticmethod
    def _supports_no_act_and_mul() -> bool:
        return True

    @staticmethod
    def _supports_quant_scheme(weight_key: Any, activation_key: Any) -> bool:
        return (weight_key, activation_key) in ((None, None), ("fp8", "fp8"))

    @staticmethod
    def _supports_activation(activation: MoEActivation) -> bool:
        return activation is not MoEActivation.RELU2

    @staticmethod
    def _supports_parallel_config(moe_parallel_config: FusedMoEParallelConfig) -> bool:
        return not moe_parallel_config.all2all_backend.startswith("flashinfer")

    @staticmethod
    def _supports_batch_invariance() -> bool:
        return True

    def workspace_shapes(
        self,
        M: int,
        N: int,
        K: int,
        topk: int,
        global_num_experts: int,
        local_num_experts: int,
        expert_tokens_meta: Any,
        activation: MoEActivation,
    ) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
        return (M, topk, max(N // 2 if activation.is_gated else N, K)), (M, topk, max(N, K)), (M, K)

    def apply(
        self,
        output: Tensor,
        hidden_states: Tensor,
        w1: Tensor,
        w2: Tensor,
        topk_weights: Tensor,
        topk_ids: Tensor,
        activation: MoEActivation,
        global_num_experts: int,
        expert_map: Tensor | None,
        a1q_scale: Tensor | None,
        a2_scale: Tensor | None,
        workspace13: Tensor,
        workspace2: Tensor,
        expert_tokens_meta: Any,
        apply_router_weight_on_input: bool,
    ) -> None:
        type(self).calls += 1
        (M, K), N = hidden_states.shape, w1.shape[1]
        assert workspace13.numel() >= M * topk_ids.shape[1] * max(self.hidden(N, activation), K)
        assert workspace2.numel() >= M * topk_ids.shape[1] * max(N, K)
        output.zero_()
        for token in range(M):
            for gate, chosen in zip(topk_weights[token], topk_ids[token].tolist(), strict=True):
                expert = chosen if expert_map is None or chosen < 0 else int(expert_map[chosen])
                if expert >= 0:
                    row = self.expert(hidden_states[token], w1[expert], w2[expert], expert, activation)
                    output[token] += row if apply_router_weight_on_input else gate * row

    @staticmethod
    def hidden(N: int, activation: MoEActivation) -> int:
        return N // 2 if activation.is_gated else N

    def expert(self, x: Tensor, w1: Tensor, w2: Tensor, number: int, activation: MoEActivation) -> Tensor:
        """Compute one expert for one token."""
        h = w1 @ x
        if self.w1_bias is not None:
            h = h + self.w1_bias[number]
        y = w2 @ self.activated(h, activation)
        return y if self.w2_bias is None else y + self.w2_bias[number]

    def activated(self, h: Tensor, activation: MoEActivation) -> Tensor:
        """Apply the activation by its formula, with the numbers of the layer."""
        numbers = self.activation_config
        plain: dict[str, Callable[[Tensor], Tensor]] = {
            "silu": functional.silu,
            "gelu": functional.gelu,
            "gelu_tanh": lambda g: functional.gelu(g, approximate="tanh"),
            "relu2": lambda g: functional.relu(g).square(),
        }
        if not activation.is_gated:
            return plain[activation.value.removesuffix("_no_mul")](h)
        gate, up = h.chunk(2)
        if activation is MoEActivation.SITU:
            beta, linear = numbers.activation_situ_beta or 1.0, numbers.activation_situ_linear_beta or 1.0
            return beta * torch.tanh(gate / beta) * torch.sigmoid(gate) * linear * torch.tanh(up / linear)
        if numbers.clamp_limit is None:
            return plain[activation.value](gate) * up
        alpha, beta = (1.0, 0.0) if activation is MoEActivation.SILU else (numbers.alpha, numbers.beta)
        gate, up = gate.clamp(max=numbers.clamp_limit), up.clamp(-numbers.clamp_limit, numbers.clamp_limit)
        return gate * torch.sigmoid(alpha * gate) * (up + beta)


class UnquantizedMoeBackend(enum.Enum):
    TRITON = "TRITON"
    BATCHED_TRITON = "BATCHED_TRITON"


class BatchedTritonExperts(TritonExperts):
    """Experts of the other backend, which no plug-in replaces."""

    @staticmethod
    def activation_format() -> FusedMoEActivationFormat:
        return FusedMoEActivationFormat.BatchedExperts


def backend_to_kernel_cls(backend: UnquantizedMoeBackend) -> list[type[Any]]:
    return [TritonExperts] if backend is UnquantizedMoeBackend.TRITON else [BatchedTritonExperts]


def modules() -> dict[str, types.ModuleType]:
    """Return new modules of vLLM by name, for `sys.modules`."""
    contents: dict[str, tuple[Any, ...]] = {
        "vllm": (),
        "vllm.platforms": (current_platform,),
        f"{ROOT}.activation": (MoEActivation, ApplyMoEActivationConfig),
        f"{ROOT}.config": (FusedMoEConfig, FusedMoEParallelConfig, FusedMoEQuantConfig),
        f"{ROOT}.experts.triton_moe": (TritonExperts,),
        f"{ROOT}.oracle.unquantized": (UnquantizedMoeBackend, backend_to_kernel_cls),
    }
    made = {}
    for name, parts in contents.items():
        made[name] = types.ModuleType(name)
        for part in parts:
            setattr(made[name], "current_platform" if part is current_platform else part.__name__, part)
    return made


def select(oracle: Any, config: FusedMoEConfig, batched: bool = False) -> Any:
    """Choose the class of experts of an unquantised layer as vLLM does; with LoRA the first of all, unasked."""
    if config.is_lora_enabled:
        return oracle.backend_to_kernel_cls(backend=UnquantizedMoeBackend.TRITON)[0]
    form = FusedMoEActivationFormat.BatchedExperts if batched else FusedMoEActivationFormat.Standard
    for backend in UnquantizedMoeBackend:
        for one in oracle.backend_to_kernel_cls(backend):
            if one.is_supported_config(one, config, None, None, form)[0]:
                return one
    raise RuntimeError("no backend supports the layer")


def run_modular(
    experts: Any,
    hidden_states: Tensor,
    w1: Tensor,
    w2: Tensor,
    topk_weights: Tensor,
    topk_ids: Tensor,
    *,
    expert_map: Tensor | None = None,
    apply_router_weight_on_input: bool = False,
) -> Tensor:
    """Call experts as vLLM's modular kernel does on one rank: prepare, allocate, apply; buffers hold NaN before."""
    activation, E = experts.moe_config.activation, experts.moe_config.num_experts
    if apply_router_weight_on_input:
        assert topk_ids.shape[1] == 1
        hidden_states = hidden_states * topk_weights.to(hidden_states.dtype)
    (M, K), N = hidden_states.shape, w1.shape[1]
    shapes = experts.workspace_shapes(M, N, K, topk_ids.shape[1], E, len(w1), None, activation)
    dtype = experts.workspace_dtype(hidden_states.dtype)
    buffers = [torch.full((prod(shape),), torch.nan, dtype=dtype, device=hidden_states.device) for shape in shapes]
    workspace13, workspace2, output = (buffer.view(shape) for buffer, shape in zip(buffers, shapes, strict=True))
    experts.apply(
        output=output,
        hidden_states=hidden_states,
        w1=w1,
        w2=w2,
        topk_weights=topk_weights,
        topk_ids=topk_ids,
        activation=activation,
        global_num_experts=E,
        expert_map=expert_map,
        a1q_scale=None,
        a2_scale=None,
        workspace13=workspace13,
        workspace2=workspace2,
        expert_tokens_meta=None,
        apply_router_weight_on_input=apply_router_weight_on_input,
    )
    return output
