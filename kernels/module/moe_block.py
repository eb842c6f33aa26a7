"""An MoE block as a torch module: a router, its experts, and what every token takes beside them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import NamedTuple, Unpack

import torch
from torch import Tensor, nn

from ..fused_router.topk_router import route
from ..instruments.stage import stage
from ..problem import Activation, Problem
from ..problem.balance.selection_bias import updated_biases
from ..problem.block import DrawsRoutes, ExpertBlock
from ..problem.router import Router, RouterInputs
from ..problem.routing import NO_ROUTE, Routing
from ..problem.tensors import Weights
from ..problem.topk_rule import BiasedTopk
from .moe_layer import MoELayer, Options


class RoutedTokens(NamedTuple):
    """Tokens with their routes: the logits and what else the router saw, and what it chose."""

    inputs: RouterInputs
    routing: Routing


class MoEBlock(nn.Module):
    """A router that chooses K of E experts for every token, the experts, and a layer around them.

    ``router`` is a text that `Router.parse` reads. Its learned parameters are ``router.NAME``, with the names and
    shapes of `Router.shapes`, in float32. A router that may select with biases has the buffer ``selection_bias`` (E,),
    zero at first, which `update_biases` moves. ``block`` is a text that `Block.parse` reads, such as ``shared`` or
    ``latent:width=512``; its parameters are ``around.NAME``. The experts are `experts`, a `MoELayer`, with its
    ``options``.

    Raises:
        ValueError: at construction, for a size, router, block or option out of range, or a block without a router.
    """

    selection_bias: Tensor | None

    def __init__(
        self,
        *,
        D: int,
        F: int,
        E: int,
        K: int,
        router: str = "softmax_topk_renorm",
        block: str = "",
        activation: Activation = "silu",
        gated: bool = True,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
        **options: Unpack[Options],
    ) -> None:
        super().__init__()
        self.problem = Problem(T=0, D=D, F=F, E=E, K=K, activation=activation, gated=gated, router=router, block=block)
        around = self.problem.around
        if around is not None and not isinstance(around, ExpertBlock):
            raise ValueError(f"block = {block!r} has no experts whose outputs are added up: give one around experts")
        if isinstance(around, DrawsRoutes):
            raise ValueError(  # noqa: TRY004  # the text is wrong
                f"block = {block!r} has its own routes in place of a router: give one around experts"
            )
        self._around = around
        self._router = Router.parse(self.problem.router)
        core = self.problem.core
        self.experts = MoELayer(
            D=core.D, F=core.F, E=core.E, activation=core.activation, gated=core.gated, dtype=dtype, device=device,
            **options,
        )  # fmt: skip
        frozen = self._router.frozen
        self.router = _parameters(self._router.shapes(D=D, E=E), torch.float32, device, frozen)
        own = {} if around is None else around.shapes(self.problem)
        self.around = _parameters(own, dtype or torch.get_default_dtype(), device, frozenset())
        biases = None
        if isinstance(self._router, BiasedTopk):
            biases = torch.zeros(E + self._router.extra_columns - self._router.rule.shared, device=device)
        self.register_buffer("selection_bias", biases)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw all parameters as `torch.nn.Linear` does: uniform within 1 / sqrt(width), the width summed over."""
        self.experts.reset_parameters()
        for tensor in (*self.router.values(), *self.around.values()):
            nn.init.uniform_(tensor, -(tensor.shape[-1] ** -0.5), tensor.shape[-1] ** -0.5)

    def forward(self, hidden_states: Tensor, token_ids: Tensor | None = None) -> Tensor:
        """Apply the block to tokens (T, D) or (B, S, D); the result has the same shape and dtype.

        ``token_ids`` int64 (T,) or (B, S) are ids of a vocabulary, for routers that read them.

        Raises:
            ValueError: when shapes or dtypes do not go together, a logit is NaN on a CPU, or token ids are missing.
        """
        return self.apply_experts(hidden_states, self.route(hidden_states, token_ids))

    def route(self, hidden_states: Tensor, token_ids: Tensor | None = None) -> RoutedTokens:
        """Return the routes of tokens, with the logits for losses (`problem.balance`); see `forward`."""
        x_TD = hidden_states.reshape(-1, self.problem.D)
        with stage("route"):
            inputs = dataclasses.replace(
                self._router.project(x_TD, dict(self.router.items()), E=self.problem.E),
                token_T=None if token_ids is None else token_ids.reshape(-1),
                bias_E=self.selection_bias,
            )
            return RoutedTokens(inputs, route(self._router, inputs, self.problem.K))

    def apply_experts(self, hidden_states: Tensor, routed: RoutedTokens) -> Tensor:
        """Return the result for tokens with these routes; see `forward`."""
        x_TD, routing = hidden_states.reshape(-1, self.problem.D), routed.routing

        def experts(rows_TD: Tensor, routes: Routing, _: Weights) -> Tensor:
            result: Tensor = self.experts(rows_TD, routes.ids_TK, routes.gates_TK)
            return result

        weights = dataclasses.replace(self.experts.weights, own=dict(self.around.items()))
        if self._around is None:
            y_TD = experts(x_TD, routing, weights)
        else:
            y_TD = self._around.forward(self.problem, experts, x_TD, routing, weights)
        if self._returns_tokens:
            # What has no route is the share of experts that return the token as it is.
            zero_T1 = routing.gates_TK.masked_fill(routing.ids_TK != NO_ROUTE, 0).sum(-1, keepdim=True)
            y_TD = y_TD + zero_T1.to(x_TD.dtype) * x_TD
        return y_TD.view(hidden_states.shape)

    @torch.no_grad()
    def update_biases(self, routing: Routing, *, rate: float = 1e-3) -> None:
        """Move the selection biases against the load of these routes (`balance.selection_bias.updated_biases`).

        Routes of several batches or ranks are to be joined before.

        Raises:
            ValueError: when the router selects without biases.
        """
        if self.selection_bias is None:
            raise ValueError(f"router = {self.problem.router!r} selects without biases: give one that has them")
        experts = self.problem.E
        updated_E = updated_biases(self.selection_bias[:experts], routing.counts_E(), rate=rate)
        self.selection_bias[:experts] = updated_E

    @property
    def _returns_tokens(self) -> bool:
        return bool(getattr(self._router, "zero_experts", 0))

    def extra_repr(self) -> str:
        return f"router={self.problem.router!r}, K={self.problem.K}, block={self.problem.block!r}"


def _parameters(
    shapes: Mapping[str, tuple[int, ...]], dtype: torch.dtype, device: torch.device | str | None, frozen: frozenset[str]
) -> nn.ParameterDict:
    return nn.ParameterDict(
        {
            name: nn.Parameter(torch.empty(shape, dtype=dtype, device=device), requires_grad=name not in frozen)
            for name, shape in shapes.items()
        }
    )
