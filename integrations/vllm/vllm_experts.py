"""Experts for vLLM: its Triton experts with a kernel of moebench inside, and with their own kernel for the rest."""

from __future__ import annotations

import logging
from functools import cache
from typing import Any, ClassVar

import torch
from torch import Tensor

from ...kernels.module.built_layers import dtype_name
from ...kernels.problem.tensors import Weights
from .vllm_call import NAMES, activation_of, layer_problem, refusal, run_experts
from .vllm_interface import VllmParts

LOG = logging.getLogger("vllm.moebench")
NO_WORKSPACE = (0,)
OWN = "vLLM's own experts run"


class KernelInside:
    """The part of a class of vLLM's experts that runs a kernel of moebench; ``own`` is the class that it changes.

    All that it does not take runs in ``own``: adapters of LoRA, weights that are quantised or not contiguous,
    activations whose numbers no kernel has, and every call after one that failed.
    """

    own: ClassVar[Any]
    platform: ClassVar[Any]
    dispatch: ClassVar[str]
    activation_config: Any
    w1_bias: Tensor | None
    w2_bias: Tensor | None
    w1_scale: Tensor | None
    w2_scale: Tensor | None

    def __init__(self, moe_config: Any, quant_config: Any) -> None:
        self.own.__init__(self, moe_config, quant_config)
        self.moebench_activation = activation_of(moe_config.activation.value, self.activation_config)
        self.moebench_refusal = layer_refusal(moe_config, self.moebench_activation, self.dispatch)
        if self.moebench_refusal:
            say_once(f"{OWN}: {self.moebench_refusal}")

    @classmethod
    def is_supported_config(
        cls, experts: Any, moe_config: Any, weight_key: Any, activation_key: Any, activation_format: Any
    ) -> tuple[bool, str | None]:
        """Return whether a layer is taken, or False and why not. vLLM asks a class about itself."""
        supported, reason = cls.own.is_supported_config(
            experts, moe_config, weight_key, activation_key, activation_format
        )
        if supported and moe_config.experts_per_token > moe_config.num_local_experts:
            supported, reason = False, "a rank has fewer experts than a token chooses"
        if not supported:
            say_once(f"{OWN}: {reason}")
        return supported, reason

    @classmethod
    def _supports_current_device(cls) -> bool:
        return bool(cls.platform.is_cuda_alike())

    @staticmethod
    def _supports_quant_scheme(weight_key: Any, activation_key: Any) -> bool:
        return weight_key is None and activation_key is None

    @staticmethod
    def _supports_activation(activation: Any) -> bool:
        return activation.value in NAMES

    @staticmethod
    def _supports_parallel_config(moe_parallel_config: Any) -> bool:
        """Take ranks that gather all tokens; other exchanges number experts and tokens in their own ways."""
        return not moe_parallel_config.use_all2all_kernels or moe_parallel_config.use_ag_rs_all2all_kernels

    @staticmethod
    def _supports_batch_invariance() -> bool:
        return False

    def workspace_shapes(self, M: int, N: int, K: int, *rest: Any, **named: Any) -> Any:
        """Return the shapes of both workspaces and the output. A kernel of moebench allocates what it works in."""
        if self.moebench_refusal:
            return self.own.workspace_shapes(self, M, N, K, *rest, **named)
        return NO_WORKSPACE, NO_WORKSPACE, (M, K)

    def apply(
        self,
        output: Tensor,
        hidden_states: Tensor,
        w1: Tensor,
        w2: Tensor,
        topk_weights: Tensor,
        topk_ids: Tensor,
        activation: Any,
        global_num_experts: int,
        expert_map: Tensor | None,
        a1q_scale: Tensor | None,
        a2_scale: Tensor | None,
        workspace13: Tensor,
        workspace2: Tensor,
        expert_tokens_meta: Any,
        apply_router_weight_on_input: bool,
    ) -> Any:
        """Write the sum over the experts of each token to ``output`` (M, K)."""
        weigh, scales = not apply_router_weight_on_input, (a1q_scale, a2_scale, self.w1_scale, self.w2_scale)
        if self._takes(hidden_states, w1, w2, *scales) and self._wrote(
            output, hidden_states, w1, w2, topk_weights, topk_ids, expert_map, weigh=weigh
        ):
            return None
        if not workspace2.numel():
            sizes = (global_num_experts, len(w1), expert_tokens_meta, activation)
            workspace13, workspace2 = self._workspaces(hidden_states, w1.shape[1], topk_ids.shape[1], *sizes)
        return self.own.apply(
            self,
            output,
            hidden_states,
            w1,
            w2,
            topk_weights,
            topk_ids,
            activation,
            global_num_experts,
            expert_map,
            a1q_scale,
            a2_scale,
            workspace13,
            workspace2,
            expert_tokens_meta,
            apply_router_weight_on_input,
        )

    def _takes(self, x: Tensor, w1: Tensor, w2: Tensor, *scales: Tensor | None) -> bool:
        return (
            not self.moebench_refusal
            and getattr(self, "post_gemm2_hook", None) is None
            and all(scale is None for scale in scales)
            and all(weight.is_contiguous() and weight.device == x.device for weight in (w1, w2))
        )

    def _wrote(
        self,
        output: Tensor,
        x: Tensor,
        w1: Tensor,
        w2: Tensor,
        gates: Tensor,
        ids: Tensor,
        expert_map: Tensor | None,
        *,
        weigh: bool,
    ) -> bool:
        """Run the kernel. Return False where it fails, and leave all further calls to vLLM's."""
        if self.moebench_activation is None:
            return False
        kind, gated = self.moebench_activation
        weights = Weights(w_up_EUD=w1, w_down_EDF=w2, b_up_EU=self.w1_bias, b_down_ED=self.w2_bias)
        how = {"activation": kind, "gated": gated, "weigh": weigh, "dispatch": self.dispatch}
        try:
            run_experts(output, x, weights, gates, ids, expert_map, **how)  # type: ignore[arg-type]  # four types in one
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # noqa: BLE001  # an engine must not die of a kernel that another can replace
            self.moebench_refusal = f"{self.dispatch} failed with {type(error).__name__}: {error}"
            LOG.warning("%s from now on: %s", OWN, self.moebench_refusal)
            return False
        return True

    def _workspaces(
        self, x: Tensor, N: int, topk: int, experts: int, local: int, tokens: Any, activation: Any
    ) -> tuple[Tensor, Tensor]:
        """Allocate what vLLM's own kernel works in, where this class asked for nothing."""
        shapes = self.own.workspace_shapes(self, *x.shape[:1], N, x.shape[1], topk, experts, local, tokens, activation)
        first, second = (torch.empty(shape, dtype=x.dtype, device=x.device) for shape in shapes[:2])
        return first, second


def experts_class(parts: VllmParts, dispatch: str) -> type[Any]:
    """Return the class of vLLM's Triton experts that runs the kernel ``dispatch`` of moebench."""
    members = {"__module__": __name__, "own": parts.triton_experts, "platform": parts.platform, "dispatch": dispatch}
    return type("MoebenchExperts", (KernelInside, parts.triton_experts), members)


@cache
def say_once(line: str) -> None:
    """Write a line to the log, which the layers of a model would repeat."""
    LOG.info("%s", line)


def layer_refusal(moe_config: Any, activation: Any, dispatch: str) -> str | None:
    """Return None, or why a layer of vLLM is left to its own experts."""
    if moe_config.is_lora_enabled:
        return "adapters of LoRA are added inside its kernel"
    if activation is None:
        return f"no kernel computes {moe_config.activation.value} with the numbers of this model"
    kind, gated = activation
    try:
        problem = layer_problem(
            D=moe_config.hidden_dim,
            F=moe_config.intermediate_size_per_partition,
            E=moe_config.num_local_experts,
            activation=kind,
            gated=gated,
            bias=moe_config.has_bias,
        ).replace(T=moe_config.max_num_tokens, K=moe_config.experts_per_token, dtype=dtype_name(moe_config.in_dtype))
    except ValueError as error:
        return str(error)
    return refusal(problem, torch.device(moe_config.device), dispatch)
