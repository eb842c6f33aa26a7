"""The tensors of a problem: what every implementation is given."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .problem import Problem
from .routers import route
from .routing import Routing
from .shard import Shard

TORCH_DTYPES: dict[str, torch.dtype] = {
    "float32": torch.float32,
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
}


@dataclass(frozen=True, kw_only=True)
class Weights:
    """Expert weights in the layout of Hugging Face checkpoints.

    ``w_up_EUD``: gate rows first, then up rows, when gated. ``w_down_EDF``.
    """

    w_up_EUD: Tensor
    w_down_EDF: Tensor


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """Everything one call reads: tokens (T, D), routes, weights, and the output gradient (T, D) of a training step."""

    x_TD: Tensor
    routing: Routing
    weights: Weights
    dy_TD: Tensor

    def differentiable(self) -> dict[str, Tensor]:
        """The tensors a training step takes gradients of, by name."""
        return {
            "x": self.x_TD,
            "w_up": self.weights.w_up_EUD,
            "w_down": self.weights.w_down_EDF,
            "gates": self.routing.gates_TK,
        }

    def requires_grad_(self) -> Inputs:
        """Ask for gradients of every differentiable tensor, in place."""
        for tensor in self.differentiable().values():
            tensor.requires_grad_()
        return self

    def clone(self) -> Inputs:
        """The same values in other memory."""
        everything = slice(None)
        return self.shard(Shard(tokens=everything, experts=everything))

    def shard(self, shard: Shard) -> Inputs:
        """What one rank holds: its tokens with their routes, and its experts' weights, as detached copies."""
        tokens, experts = shard.tokens, shard.experts
        routing = self.routing
        return Inputs(
            x_TD=self.x_TD[tokens].detach().clone(),
            routing=Routing(
                ids_TK=routing.ids_TK[tokens].clone(),
                gates_TK=routing.gates_TK[tokens].detach().clone(),
                experts=routing.experts,
            ),
            weights=Weights(
                w_up_EUD=self.weights.w_up_EUD[experts].detach().clone(),
                w_down_EDF=self.weights.w_down_EDF[experts].detach().clone(),
            ),
            dy_TD=self.dy_TD[tokens].clone(),
        )


def draw_weights(problem: Problem, *, seed: int, device: torch.device) -> Weights:
    """Random weights that keep activations near unit variance, so that errors are comparable across shapes."""
    generator = torch.Generator(device).manual_seed(seed)
    dtype = TORCH_DTYPES[problem.dtype]

    def normal(*shape: int) -> Tensor:
        scale = shape[-1] ** -0.5
        # Drawn expert by expert: a float32 copy of all experts could be what does not fit.
        weight = torch.empty(shape, dtype=dtype, device=device)
        for expert in weight:
            expert.copy_(torch.randn(shape[1:], generator=generator, device=device) * scale)
        return weight

    return Weights(w_up_EUD=normal(problem.E, problem.U, problem.D), w_down_EDF=normal(problem.E, problem.D, problem.F))


def draw_inputs(problem: Problem, weights: Weights, *, seed: int, device: torch.device) -> Inputs:
    """Fresh tokens, routes and output gradient for given weights."""
    generator = torch.Generator(device).manual_seed(seed)
    dtype = TORCH_DTYPES[problem.dtype]
    shape = (problem.T, problem.D)
    return Inputs(
        x_TD=torch.randn(shape, generator=generator, device=device).to(dtype),
        routing=route(problem, seed=seed, device=device),
        weights=weights,
        dy_TD=torch.randn(shape, generator=generator, device=device).to(dtype),
    )
