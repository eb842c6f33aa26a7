"""OpenAI's triton_kernels: two ragged `matmul` with gather, SwiGLU, gates and scatter fused, then `reduce`.

Written for the package as it is in the Triton repository since `matmul_ogs` became `matmul` (January 2026, Triton 3.7).
It has no backward. Its SwiGLU reads gate and up rows in turn and computes silu(gate) * (up + 1): rows are interleaved
once, and a bias of -1 on the up rows cancels the one in the same float32 accumulator. Its own routing starts from
logits, so this adapter sorts the given routes.
"""

from __future__ import annotations

import math
from typing import ClassVar, cast

import torch
from torch import Tensor

from ...common.packages import Release
from ..config import Config
from ..kernel import Layer
from ..problem import Problem
from ..problem.routing import Routing
from ..problem.tensors import Weights
from ._peer import HALVES, Once, Peer, Takes, peer_module


class TritonKernelsMoe(Peer):
    """An adapter that calls it as its own benchmark of a mixture of experts does, in half precision."""

    read_against: ClassVar[Release] = Release(
        "triton_kernels", "1.0.0 of January 2026", "python/triton_kernels/triton_kernels/matmul.py"
    )
    modules = ("triton_kernels.matmul", "triton_kernels.reduce", "triton_kernels.swiglu", "triton_kernels.tensor")
    remedy = "pip install it from python/triton_kernels of the Triton repository, in the state of the Triton in use"
    takes: ClassVar[Takes] = {
        "mode": ("forward",),
        "gated": (True,),
        "activation": ("silu",),
        "dtype": HALVES,  # float32 is multiplied in TF32
    }

    def build(self, problem: Problem, config: Config, device: torch.device) -> Layer:
        matmul, reduce, swiglu, tensor = (peer_module(name) for name in self.modules)
        specs = matmul.FnSpecs("swiglu", swiglu.swiglu_fn, ("alpha", "limit"), reduction_n=2)
        activation = matmul.FusedActivation(specs, (1.0, math.inf))
        expert_E1 = torch.arange(problem.E + 1, dtype=torch.int32, device=device)
        no_bias_EU = torch.zeros(problem.E, problem.U, device=device)
        load_up, load_bias, load_float = Once(_interleaved), Once(_interleaved_bias), Once(Tensor.float)

        def layer(x_TD: Tensor, routing: Routing, weights: Weights) -> Tensor:
            sorted_N, route_N = torch.sort(routing.ids_TK.flatten(), stable=True)
            counts_E = torch.searchsorted(sorted_N, expert_E1, out_int32=True).diff()
            rows = tensor.make_ragged_tensor_metadata(counts_E, problem.N)
            row_N = route_N.int()
            b_down_ED = None if weights.b_down_ED is None else load_float(weights.b_down_ED)
            a_NF = matmul.matmul(
                x_TD,
                load_up(weights.w_up_EUD),
                load_bias(no_bias_EU if weights.b_up_EU is None else weights.b_up_EU),
                a_ragged_metadata=rows,
                gather_indx=row_N // problem.K,
                fused_activation=activation,
            )
            y_ND = matmul.matmul(
                a_NF,
                weights.w_down_EDF.transpose(1, 2),
                b_down_ED,
                a_ragged_metadata=rows,
                scatter_indx=row_N,
                gammas=routing.gates_TK.flatten()[route_N],
            )
            y_TD, _ = reduce.reduce(y_ND.view(problem.T, problem.K, problem.D), dim=1)
            return cast(Tensor, y_TD)

        return layer

    def row_width(self, problem: Problem) -> int:
        return problem.F + problem.D


def _interleaved(w_up_EUD: Tensor) -> Tensor:
    """Return (E, D, U) with a gate column before each up column; in memory every column is contiguous."""
    return torch.stack(w_up_EUD.chunk(2, dim=1), dim=2).flatten(1, 2).transpose(1, 2)


def _interleaved_bias(b_up_EU: Tensor) -> Tensor:
    """Return the interleaved bias (E, U) in float32, less one for every up column."""
    gate_EF, up_EF = b_up_EU.float().chunk(2, dim=1)
    return torch.stack((gate_EF, up_EF - 1), dim=2).flatten(1)


kernel = TritonKernelsMoe()
