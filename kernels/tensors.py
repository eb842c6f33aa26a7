"""The tensors of a problem: what every implementation is given."""

from __future__ import annotations

from collections.abc import Callable
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

BIAS_SCALE = 0.5  # beside activations near unit variance: neither lost in them nor drowning them


@dataclass(frozen=True, kw_only=True)
class Weights:
    """Expert weights in the layout of Hugging Face checkpoints; an expert is b_down + W_down act(b_up + W_up x).

    ``w_up_EUD``: gate rows first, then up rows, when gated. ``w_down_EDF``. The biases ``b_up_EU`` and ``b_down_ED``
    are None for a problem without.
    """

    w_up_EUD: Tensor
    w_down_EDF: Tensor
    b_up_EU: Tensor | None = None
    b_down_ED: Tensor | None = None

    def named(self) -> dict[str, Tensor]:
        """The tensors there are, by the names of their gradients."""
        tensors = {"w_up": self.w_up_EUD, "w_down": self.w_down_EDF, "b_up": self.b_up_EU, "b_down": self.b_down_ED}
        return {name: tensor for name, tensor in tensors.items() if tensor is not None}

    def map(self, change: Callable[[Tensor], Tensor]) -> Weights:
        """The same weights with every tensor changed."""
        changed = {name: change(tensor) for name, tensor in self.named().items()}
        return Weights(
            w_up_EUD=changed["w_up"],
            w_down_EDF=changed["w_down"],
            b_up_EU=changed.get("b_up"),
            b_down_ED=changed.get("b_down"),
        )


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """Everything one call reads: tokens (T, D), routes, weights, and the output gradient (T, D) of a training step."""

    x_TD: Tensor
    routing: Routing
    weights: Weights
    dy_TD: Tensor

    def differentiable(self) -> dict[str, Tensor]:
        """The tensors a training step takes gradients of, by name."""
        return {"x": self.x_TD, **self.weights.named(), "gates": self.routing.gates_TK}

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
            weights=self.weights.map(lambda tensor: tensor[experts].detach().clone()),
            dy_TD=self.dy_TD[tokens].clone(),
        )


def draw_weights(problem: Problem, *, seed: int, device: torch.device) -> Weights:
    """Random weights that keep activations near unit variance, so that errors are comparable across shapes."""
    generator = torch.Generator(device).manual_seed(seed)
    dtype = TORCH_DTYPES[problem.dtype]

    def normal(*shape: int, scale: float) -> Tensor:
        # Drawn expert by expert: a float32 copy of all experts could be what does not fit.
        weight = torch.empty(shape, dtype=dtype, device=device)
        for expert in weight:
            expert.copy_(torch.randn(shape[1:], generator=generator, device=device) * scale)
        return weight

    E, D, F, U = problem.E, problem.D, problem.F, problem.U
    w_up_EUD, w_down_EDF = normal(E, U, D, scale=D**-0.5), normal(E, D, F, scale=F**-0.5)
    if not problem.bias:
        return Weights(w_up_EUD=w_up_EUD, w_down_EDF=w_down_EDF)
    b_up_EU, b_down_ED = normal(E, U, scale=BIAS_SCALE), normal(E, D, scale=BIAS_SCALE)
    return Weights(w_up_EUD=w_up_EUD, w_down_EDF=w_down_EDF, b_up_EU=b_up_EU, b_down_ED=b_down_ED)


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
