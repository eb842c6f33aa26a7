"""vLLM's `fused_experts` with given routes, Triton kernels and its own tuned tables: forward only.

Written for vLLM 0.11 and after: only arguments whose names have stayed are given. Its weights have our layout.
"""

from __future__ import annotations

from typing import ClassVar, cast

import torch
from torch import Tensor

from ..kernel import Config, Layer
from ..problem import Problem
from ..routing import Routing
from ..tensors import Weights
from ._peer import HALVES, Peer, Takes, peer_module

MODULE = "vllm.model_executor.layers.fused_moe"


class VllmFusedMoe(Peer):
    """Align, multiply, activate, multiply, sum: one launch each."""

    modules = (MODULE,)
    remedy = "pip install vllm"
    takes: ClassVar[Takes] = {
        "mode": ("forward",),
        "gated": (True,),
        "activation": ("silu",),  # the default: how others are named has changed from version to version
        "dtype": HALVES,  # float32 is multiplied in TF32
        "bias": (False,),  # they are part of a quantisation's description, another one in each version
    }

    def build(self, problem: Problem, config: Config, device: torch.device) -> Layer:
        fused_moe = peer_module(MODULE)

        def layer(x_TD: Tensor, routing: Routing, weights: Weights) -> Tensor:
            y_TD = fused_moe.fused_experts(
                hidden_states=x_TD,
                w1=weights.w_up_EUD,
                w2=weights.w_down_EDF,
                topk_weights=routing.gates_TK,
                topk_ids=routing.ids_TK,
            )
            return cast(Tensor, y_TD)

        return layer

    def row_width(self, problem: Problem) -> int:
        """The outputs of both products share memory."""
        return max(problem.U, problem.D) + problem.F


kernel = VllmFusedMoe()
