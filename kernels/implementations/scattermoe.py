"""ScatterMoE's two `parallel_linear`, as its `MLP` and `GLUMLP` call them, with given routes (Tan et al. 2024).

Written for scattermoe 0.3.0. Its products take weights (E, in, out) of any strides, so ours go in as transposed views
and gradients come back in our layout. The activation between them is torch's, as it is in its own modules.
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
from ..torch_ops.activations import activate
from ._peer import HALVES, Peer, Takes, peer_module


class ScatterMoE(Peer):
    """An adapter whose up projection goes from token to expert order, and whose down projection sums with the gates."""

    read_against: ClassVar[Release] = Release("scattermoe", "0.3.0", "scattermoe/parallel_experts.py")
    modules = ("scattermoe",)
    remedy = "pip install it from its repository, shawntan/scattermoe"
    takes: ClassVar[Takes] = {"dtype": HALVES}  # float32 is multiplied in TF32

    def build(self, problem: Problem, config: Config, device: torch.device) -> Layer:
        scattermoe = peer_module("scattermoe")

        def layer(x_TD: Tensor, routing: Routing, weights: Weights) -> Tensor:
            # int64 as torch.topk returns it: its kernels multiply an id by the stride of an expert.
            order = scattermoe.flatten_sort_count(routing.ids_TK.long(), num_experts=problem.E)
            h_NU = scattermoe.parallel_linear(
                x_TD,
                weights.w_up_EUD.transpose(1, 2),
                problem.K,
                *order,
                expert_biases=weights.b_up_EU,
                grouped_out=True,
            )
            y_TD = scattermoe.parallel_linear(
                activate(problem, h_NU),
                weights.w_down_EDF.transpose(1, 2),
                1,
                *order,
                expert_biases=weights.b_down_ED,
                gates=routing.gates_TK.to(x_TD.dtype),
                grouped_in=True,
            )
            return cast(Tensor, y_TD)

        return layer

    def row_width(self, problem: Problem) -> int:
        """Count in training also the input in expert order and the gradients between the products."""
        forward = problem.U + 2 * problem.F + problem.D
        return forward + problem.U + problem.F + problem.D if problem.mode == "train" else forward


kernel = ScatterMoE()
