"""Gated experts of transformers that ask for no implementation: Step 3.7, LongCat-Flash and DBRX."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ...kernels.module.hugging_face import activation_of
from ...kernels.problem import Activation
from ...kernels.problem.tensors import Weights
from .converted_weights import converted
from .replaced_forwards import Apply, OwnForward


class Step3p7(OwnForward):
    """Experts of Step 3.7. In a layer with a limit, which clamps after the activation, their own forward runs."""

    how = "shared"

    @staticmethod
    def of(experts: Any) -> OwnForward:
        return Step3p7(kind=type(experts), activation=_gated_activation(experts, experts.act_fn))

    def sizes(self, experts: Any) -> tuple[int, int, int]:
        return experts.num_experts, experts.hidden_dim, experts.intermediate_dim

    def runs(self, experts: Any) -> bool:
        return bool(experts.limit == float("inf"))

    def weights(self, experts: Any) -> Weights:
        return Weights(w_up_EUD=experts.gate_up_proj, w_down_EDF=experts.down_proj)


class LongcatFlash(OwnForward):
    """Experts of LongCat-Flash; ids from ``num_routed_experts`` on are experts that return the token."""

    how = "shared; tokens of zero experts are added after moebench"

    @staticmethod
    def of(experts: Any) -> OwnForward:
        if experts.num_routed_experts == 0:
            raise ValueError("LongcatFlashExperts has num_routed_experts = 0: moebench has nothing to run in it")
        return LongcatFlash(kind=type(experts), activation=_gated_activation(experts, experts.act_fn))

    def sizes(self, experts: Any) -> tuple[int, int, int]:
        return experts.num_routed_experts, experts.hidden_size, experts.intermediate_size

    def weights(self, experts: Any) -> Weights:
        # transformers allocates rows for zero experts too, which nothing reads
        routed = experts.gate_up_proj[: experts.num_routed_experts]
        return Weights(w_up_EUD=routed, w_down_EDF=experts.down_proj)

    def forward(self, experts: Any, apply: Apply, hidden_states: Tensor, ids: Tensor, gates: Tensor) -> Tensor:
        result = apply(hidden_states, ids, gates)
        if not experts.zero_expert_num:
            return result
        kept = torch.where(ids >= experts.num_routed_experts, gates, 0).sum(-1, keepdim=True)
        return result + (hidden_states * kept).to(result.dtype)


class Dbrx(OwnForward):
    """Experts of DBRX, whose matrices are each one parameter (E F, D): gate, up, and down transposed."""

    how = "up projection copied, down projection a view"

    @staticmethod
    def of(experts: Any) -> OwnForward:
        return Dbrx(kind=type(experts), activation=_gated_activation(experts, experts.mlp.activation_fn))

    def sizes(self, experts: Any) -> tuple[int, int, int]:
        return experts.num_experts, experts.hidden_size, experts.ffn_hidden_size

    def weights(self, experts: Any) -> Weights:
        mlp, shape = experts.mlp, (experts.num_experts, experts.ffn_hidden_size, experts.hidden_size)
        sources = {"gate": mlp.w1, "up": mlp.v1}

        def join(parts: Mapping[str, Tensor]) -> dict[str, Tensor]:
            return {"w_up": torch.cat([parts[name].view(shape) for name in ("gate", "up")], 1)}

        return Weights(w_up_EUD=converted(experts, sources, join)["w_up"], w_down_EDF=mlp.w2.view(shape).mT)

    def forward(self, experts: Any, apply: Apply, hidden_states: Tensor, ids: Tensor, gates: Tensor) -> Tensor:
        result = apply(hidden_states.reshape(-1, experts.hidden_size), ids, gates)
        return result.view(hidden_states.shape[0], -1, experts.hidden_size)


def _gated_activation(experts: nn.Module, act: Callable[[Tensor], Tensor]) -> Activation:
    return activation_of(type(experts).__name__, lambda gate, up: act(gate) * up, gated=True)
