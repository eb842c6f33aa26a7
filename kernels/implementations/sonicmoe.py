"""SonicMoE's `moe_general_routing_inputs`: its grouped products for Hopper and Blackwell (Guo et al. 2025).

Written for sonic-moe 0.1.2. It takes w1 (2F, D, E) and w2 (D, F, E) with the strides of a tensor whose experts come
first, and with ``concat_layout`` the row order of a checkpoint: ours go in as permuted views, as gradients come back.
"""

from __future__ import annotations

from typing import ClassVar, cast

import torch
from torch import Tensor

from ...common.packages import Release
from ..config import Config
from ..kernel import Layer
from ..problem import Problem
from ..problem.routing import Routing
from ..problem.tensors import Weights
from ._peer import HALVES, Peer, Takes, peer_module


class SonicMoE(Peer):
    """An adapter to the entry that takes any routes, any number for a token, instead of logits."""

    read_against: ClassVar[Release] = Release("sonic-moe", "0.1.2", "sonicmoe/functional/__init__.py")
    modules = ("sonicmoe", "sonicmoe.enums")
    remedy = "pip install sonic-moe (Python 3.12 or later)"
    takes: ClassVar[Takes] = {
        "gated": (True,),
        "activation": ("silu",),  # its GELU is the approximation by tanh
        "dtype": HALVES,
    }
    step = 8  # rows start on 16 bytes
    capability = (9, 0)

    def build(self, problem: Problem, config: Config, device: torch.device) -> Layer:
        sonicmoe, enums = (peer_module(name) for name in self.modules)
        token_N = torch.arange(problem.T, dtype=torch.int32, device=device).repeat_interleave(problem.K)

        def layer(x_TD: Tensor, routing: Routing, weights: Weights) -> Tensor:
            y_TD, _ = sonicmoe.moe_general_routing_inputs(
                x_TD,
                routing.gates_TK.flatten(),
                token_N,
                routing.ids_TK.flatten(),
                weights.w_up_EUD.permute(1, 2, 0),
                weights.b_up_EU,
                weights.w_down_EDF.permute(1, 2, 0),
                weights.b_down_ED,
                problem.E,
                0,  # a stream, no longer read and renamed since: it launches on torch's current one
                activation_type=enums.ActivationType.SWIGLU,
                is_inference_mode_enabled=problem.mode == "forward",
                concat_layout=True,
            )
            return cast(Tensor, y_TD)

        return layer

    def row_width(self, problem: Problem) -> int:
        """Count in training the pre-activations, their gradients, and the larger of the tensors around them."""
        forward = problem.F + problem.D
        if problem.mode == "forward":
            return forward
        return 2 * problem.U + max(problem.F, problem.D)


kernel = SonicMoE()
