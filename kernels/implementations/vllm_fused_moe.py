"""vLLM's `fused_experts` with given routes, Triton kernels and its own tuned tables: forward only.

Written for vLLM 0.11 and later: it passes only arguments whose names have not changed. vLLM's weights have our layout.
The configuration may set the tiles; by default vLLM looks them up in its own tables, as it does when it serves.
"""

from __future__ import annotations

from typing import ClassVar, cast

import torch
from torch import Tensor

from ...common.packages import Release
from ..config import Config
from ..hardware.device_limits import hardware
from ..kernel import Layer
from ..problem import Problem
from ..problem.routing import Routing
from ..problem.tensors import Weights
from ..triton.vllm_tiles import OWN_CHOICE, shared_bytes, tilings
from ._peer import HALVES, Peer, Takes, peer_module

SMALLEST = 16  # the smallest side of a tile that Triton multiplies
MODULE = "vllm.model_executor.layers.fused_moe"


class VllmFusedMoe(Peer):
    """An adapter with one launch each to align, multiply, activate, multiply and sum."""

    read_against: ClassVar[Release] = Release("vllm", "0.11.0", f"{MODULE.replace('.', '/')}/fused_moe.py")
    modules = (MODULE,)
    remedy = "pip install vllm"
    takes: ClassVar[Takes] = {
        "mode": ("forward",),
        "gated": (True,),
        "activation": ("silu",),  # the default: how others are named has changed from version to version
        "dtype": HALVES,  # float32 is multiplied in TF32
        "bias": (False,),  # they are part of a quantisation's description, another one in each version
    }

    def space(self, problem: Problem, device: torch.device) -> list[Config]:
        """Return vLLM's own choice of tiles, and then the tiles that its own tuner tries."""
        return [OWN_CHOICE, *tilings(hardware(device).maker)]

    def fault(self, problem: Problem, config: Config, device: torch.device) -> str | None:
        if not any(config.values()):
            return None
        tiles = {name: int(value) for name, value in config.items()}
        available = hardware(device).shared_bytes
        needed = shared_bytes(tiles, row_bytes=problem.operand_bytes, weight_bytes=problem.operand_bytes)
        widest = {
            "BLOCK_SIZE_M": (problem.T, "rows of an expert"),
            "BLOCK_SIZE_N": (max(problem.U, problem.D), "columns of a product"),
            "BLOCK_SIZE_K": (max(problem.F, problem.D), "terms of a sum"),
        }
        if needed > available:
            return f"needs {needed} bytes of shared memory of {available}"
        for name, (most, what) in widest.items():
            if tiles[name] >= 2 * max(most, SMALLEST):
                return f"{name} = {tiles[name]} is half empty at least: there are {most} {what} at most"
        return None

    def build(self, problem: Problem, config: Config, device: torch.device) -> Layer:
        fused_moe = peer_module(MODULE)
        tiles = dict(config) if any(config.values()) else None

        def layer(x_TD: Tensor, routing: Routing, weights: Weights) -> Tensor:
            # Set even without tiles: an earlier call that raised would have left its own behind.
            with fused_moe.override_config(tiles):
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
        """Count the larger output only, because both products share memory."""
        return max(problem.U, problem.D) + problem.F


kernel = VllmFusedMoe()
