"""The tensors of a problem: the inputs of every implementation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from .block import DrawsRoutes
from .draw_routes import draw_routes
from .problem import Problem
from .routing import Routing
from .shard import Shard

TORCH_DTYPES: dict[str, torch.dtype] = {
    "float32": torch.float32,
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
    "float8_e4m3fn": torch.float8_e4m3fn,
}
"""The dtype of the weights for each `Problem.dtype`; tokens have it too, except with float8_e4m3fn."""

BIAS_SCALE = 0.5  # activations have about unit variance: a bias neither vanishes beside them nor hides them
LEAST_SCALE = 1e-30  # the scale of a row of zeros or nearly so: float32 can still divide by it


OF_LAYER = "layer_"


def is_of_layer(name: str) -> bool:
    """Return whether the tensor of this name is a block's own, which has no row for each token or expert."""
    return name.startswith(OF_LAYER)


@dataclass(frozen=True, kw_only=True)
class Weights:
    """Expert weights in the layout of Hugging Face checkpoints; an expert is b_down + W_down act(b_up + W_up x).

    ``w_up_EUD`` has gate rows first, then up rows, when gated. The biases ``b_up_EU`` and ``b_down_ED`` are None in a
    problem without biases. The float32 scales ``s_up_EU`` and ``s_down_ED``, one for each output row, are None in a
    problem without quantised weights: a quantised weight is its row times its scale. ``own`` are the tensors of a block
    around the experts by name (`Block.shapes`), all matrices.
    """

    w_up_EUD: Tensor
    w_down_EDF: Tensor
    b_up_EU: Tensor | None = None
    b_down_ED: Tensor | None = None
    s_up_EU: Tensor | None = None
    s_down_ED: Tensor | None = None
    own: Mapping[str, Tensor] = field(default_factory=dict)

    def named(self) -> dict[str, Tensor]:
        """Return the tensors that are not None, by the names of their gradients."""
        tensors = {
            "w_up": self.w_up_EUD,
            "w_down": self.w_down_EDF,
            "b_up": self.b_up_EU,
            "b_down": self.b_down_ED,
            "s_up": self.s_up_EU,
            "s_down": self.s_down_ED,
            **self.own,
        }
        return {name: tensor for name, tensor in tensors.items() if tensor is not None}

    def map(self, change: Callable[[Tensor], Tensor]) -> Weights:
        """Return the weights with ``change`` applied to every tensor."""
        changed = {name: change(tensor) for name, tensor in self.named().items()}
        return Weights(
            w_up_EUD=changed["w_up"],
            w_down_EDF=changed["w_down"],
            b_up_EU=changed.get("b_up"),
            b_down_ED=changed.get("b_down"),
            s_up_EU=changed.get("s_up"),
            s_down_ED=changed.get("s_down"),
            own={name: changed[name] for name in self.own},
        )

    def of_experts(self) -> Weights:
        """Return the weights without those of a block: each has a part for every expert."""
        return replace(self, own={}) if self.own else self


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """The inputs of one call: tokens (T, D), routes, weights, and in a training step the output gradient (T, D)."""

    x_TD: Tensor
    routing: Routing
    weights: Weights
    dy_TD: Tensor | None = None

    def tensors(self) -> dict[str, Tensor]:
        """Return the tensors that a forward reads besides the ids, by name."""
        return {"x": self.x_TD, **self.weights.named(), "gates": self.routing.gates_TK}

    def differentiable(self) -> dict[str, Tensor]:
        """Return those of `tensors` that have gradients: all but quantised weights and their scales."""
        constant = () if self.weights.s_up_EU is None else ("w_up", "w_down", "s_up", "s_down")
        return {name: tensor for name, tensor in self.tensors().items() if name not in constant}

    def of_tokens(self) -> dict[str, Tensor]:
        """Return the tensors that have a row for each token, by name."""
        found = {"x": self.x_TD, "gates": self.routing.gates_TK, "ids": self.routing.ids_TK}
        return found if self.dy_TD is None else {**found, "dy": self.dy_TD}

    def everything(self) -> dict[str, Tensor]:
        """Return all tensors, by name."""
        return self.tensors() | self.of_tokens()

    def requires_grad_(self) -> Inputs:
        """Set requires_grad on every differentiable tensor, in place."""
        for tensor in self.differentiable().values():
            tensor.requires_grad_()
        return self

    def clone(self) -> Inputs:
        """Return a copy of all tensors."""
        everything = slice(None)
        return self.shard(Shard(tokens=everything, experts=everything))

    def with_own_tokens(self) -> Inputs:
        """Return detached inputs with copies of everything but the weights, which are the same memory."""
        routing = self.routing
        return Inputs(
            x_TD=self.x_TD.detach().clone(),
            routing=Routing(
                ids_TK=routing.ids_TK.clone(), gates_TK=routing.gates_TK.detach().clone(), experts=routing.experts
            ),
            weights=self.weights.map(lambda tensor: tensor.detach()),
            dy_TD=None if self.dy_TD is None else self.dy_TD.clone(),
        )

    def shard(self, shard: Shard) -> Inputs:
        """Return one rank's share as detached copies: its tokens with their routes, and its experts' weights."""
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
            dy_TD=None if self.dy_TD is None else self.dy_TD[tokens].clone(),
        )


def token_dtype(problem: Problem) -> torch.dtype:
    """Return the dtype of x, y, their gradients and the biases."""
    return TORCH_DTYPES[problem.held]


def without_values(problem: Problem) -> Inputs:
    """Return the tensors of a problem on the device ``meta``, which have shapes and dtypes but no values."""
    held, read = TORCH_DTYPES[problem.dtype], token_dtype(problem)

    def tensor(*shape: int, dtype: torch.dtype = read) -> Tensor:
        return torch.empty(shape, dtype=dtype, device="meta")

    core, own = problem.core, {} if problem.around is None else problem.around.shapes(problem)
    T, D, F, E, K, U = core.T, core.D, core.F, core.E, core.K, core.U
    return Inputs(
        x_TD=tensor(problem.T, problem.D),
        routing=Routing(ids_TK=tensor(T, K, dtype=torch.int32), gates_TK=tensor(T, K, dtype=torch.float32), experts=E),
        weights=Weights(
            w_up_EUD=tensor(E, U, D, dtype=held),
            w_down_EDF=tensor(E, D, F, dtype=held),
            b_up_EU=tensor(E, U) if problem.bias else None,
            b_down_ED=tensor(E, D) if problem.bias else None,
            s_up_EU=tensor(E, U, dtype=torch.float32) if problem.quantised else None,
            s_down_ED=tensor(E, D, dtype=torch.float32) if problem.quantised else None,
            own={name: tensor(*shape) for name, shape in own.items()},
        ),
        dy_TD=tensor(problem.T, problem.D) if problem.mode == "train" else None,
    )


def quantise(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Quantise rows (M, K) to float8_e4m3fn with float32 scales (M,): a row's largest value becomes the format's."""
    largest = torch.finfo(torch.float8_e4m3fn).max
    scale_M = (rows.float().abs().amax(1) / largest).clamp_min(LEAST_SCALE)
    return (rows.float() / scale_M[:, None]).to(torch.float8_e4m3fn), scale_M


def draw_weights(problem: Problem, *, seed: int, device: torch.device) -> Weights:
    """Draw weights that keep activations near unit variance, so that errors are comparable across shapes."""
    generator = torch.Generator(device).manual_seed(seed)
    core, own = problem.core, {} if problem.around is None else problem.around.shapes(problem)
    E, D, F, U = core.E, core.D, core.F, core.U

    # Drawn expert by expert, because a float32 copy of all experts might not fit into memory.
    def normal(*shape: int, scale: float) -> Tensor:
        weight = torch.empty(shape, dtype=token_dtype(problem), device=device)
        drawn = torch.empty(shape[1:], device=device)
        for expert in weight:
            if weight.dtype is torch.float32:
                expert.normal_(0, scale, generator=generator)
            else:
                expert.copy_(drawn.normal_(0, scale, generator=generator))
        return weight

    def matrices(*shape: int, scale: float) -> tuple[Tensor, Tensor | None]:
        if not problem.quantised:
            return normal(*shape, scale=scale), None
        weight = torch.empty(shape, dtype=TORCH_DTYPES[problem.dtype], device=device)
        scale_EN = torch.empty(shape[:2], device=device)
        for expert, scale_N in zip(weight, scale_EN, strict=True):
            values, scales = quantise(torch.randn(shape[1:], generator=generator, device=device) * scale)
            expert.copy_(values)
            scale_N.copy_(scales)
        return weight, scale_EN

    w_up_EUD, s_up_EU = matrices(E, U, D, scale=D**-0.5)
    w_down_EDF, s_down_ED = matrices(E, D, F, scale=F**-0.5)
    return Weights(
        w_up_EUD=w_up_EUD,
        w_down_EDF=w_down_EDF,
        b_up_EU=normal(E, U, scale=BIAS_SCALE) if problem.bias else None,
        b_down_ED=normal(E, D, scale=BIAS_SCALE) if problem.bias else None,
        s_up_EU=s_up_EU,
        s_down_ED=s_down_ED,
        own={name: normal(*shape, scale=shape[1] ** -0.5) for name, shape in own.items()},
    )


def draw_inputs(problem: Problem, weights: Weights, *, seed: int, device: torch.device) -> Inputs:
    """Draw new tokens and routes for given weights, and in training an output gradient."""
    generator = torch.Generator(device).manual_seed(seed)
    around = problem.around
    routes = around.routes if isinstance(around, DrawsRoutes) else draw_routes

    def normal() -> Tensor:
        return torch.randn((problem.T, problem.D), generator=generator, device=device).to(token_dtype(problem))

    return Inputs(
        x_TD=normal(),
        routing=routes(problem, seed=seed, device=device),
        weights=weights,
        dy_TD=normal() if problem.mode == "train" else None,
    )
