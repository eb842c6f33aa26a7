"""Routes drawn for a problem: its load gives the logits, its router chooses."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from .load import Load
from .problem import Problem
from .router import Router
from .routing import NO_ROUTE, Routing


def routed(router: str, logits_TE: Tensor, K: int) -> Routing:
    """Return the routes that the router of this text (`Router.parse`) makes of logits (T, E)."""
    ids_TK, gates_TK = Router.parse(router).route(logits_TE, K)
    return Routing(ids_TK=ids_TK, gates_TK=gates_TK, experts=logits_TE.shape[1])


def draw_routes(problem: Problem, *, seed: int, device: torch.device) -> Routing:
    """Draw routes for a problem under its load: the same numbers for the same seed on every device.

    The popularity of the experts depends on ``problem.seed`` alone. ``seed`` draws the tokens; of a trace it draws the
    window.
    """
    load = Load.parse(problem.load)
    popularity = load.logits_E(problem.E, np.random.default_rng(problem.seed))
    generator = torch.Generator().manual_seed(seed)
    uniform_TE = torch.rand(problem.T, problem.E, generator=generator).clamp_(min=torch.finfo(torch.float32).tiny)
    gumbel_TE = -torch.log(-torch.log(uniform_TE))
    logits_TE = gumbel_TE + torch.from_numpy(popularity).float()
    routing = routed(problem.router, logits_TE, problem.K)
    ids_TK = routing.ids_TK
    if load.trace is not None:
        # The largest weight goes to the first choice of the trace, and so on: the router's answer to the same logits
        # with each token's experts renamed.
        window_TK = load.trace.window(problem.T, np.random.default_rng(seed))
        ids_TK = torch.from_numpy(window_TK).clamp(min=NO_ROUTE)
    return Routing(ids_TK=ids_TK.to(device), gates_TK=routing.gates_TK.to(device), experts=routing.experts)
