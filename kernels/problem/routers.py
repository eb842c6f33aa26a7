"""Routers: from logits to routes. Each is one function of float32 logits (T, E) and K."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from .load import Load
from .problem import Problem, RouterName
from .routing import NO_ROUTE, Routing


def softmax_topk(logits_TE: Tensor, chosen: int) -> Routing:
    """Softmax over all experts, then the top k probabilities as they are (OLMoE, DeepSeek-V2, Qwen1.5-MoE).

    Of equal logits the lower index comes first.
    """
    # The top logits, not the top probabilities: those of experts far behind are all 0 in float32.
    ids_TK = torch.sort(logits_TE, dim=-1, descending=True, stable=True).indices[:, :chosen]
    gates_TK = torch.softmax(logits_TE.float(), dim=-1).gather(-1, ids_TK)
    return Routing(ids_TK=ids_TK.int(), gates_TK=gates_TK, experts=logits_TE.shape[1])


def softmax_topk_renorm(logits_TE: Tensor, chosen: int) -> Routing:
    """Softmax, top k, divided by their sum (Mixtral, Qwen3); equals the softmax of the top k logits (gpt-oss)."""
    routing = softmax_topk(logits_TE, chosen)
    total_T1 = routing.gates_TK.sum(-1, keepdim=True)
    return Routing(ids_TK=routing.ids_TK, gates_TK=routing.gates_TK / total_T1, experts=routing.experts)


def switch(logits_TE: Tensor, chosen: int) -> Routing:
    """The one most probable expert, weighted by its probability (Fedus et al. 2021, equation 2).

    Raises:
        ValueError: when ``chosen`` is not 1.
    """
    if chosen != 1:
        raise ValueError(f"the Switch router takes one expert per token, not K = {chosen}")
    return softmax_topk(logits_TE, 1)


ROUTERS: dict[RouterName, Callable[[Tensor, int], Routing]] = {
    "softmax_topk": softmax_topk,
    "softmax_topk_renorm": softmax_topk_renorm,
    "switch": switch,
}


def route(problem: Problem, *, seed: int, device: torch.device) -> Routing:
    """Routes for ``problem`` under its load: the same numbers for the same seed on every device.

    The popularity of the experts depends on ``problem.seed`` alone; ``seed`` draws the tokens, of a trace the window.
    """
    load = Load.parse(problem.load)
    popularity = load.logits_E(problem.E, np.random.default_rng(problem.seed))
    generator = torch.Generator().manual_seed(seed)
    uniform_TE = torch.rand(problem.T, problem.E, generator=generator).clamp_(min=torch.finfo(torch.float32).tiny)
    gumbel_TE = -torch.log(-torch.log(uniform_TE))
    logits_TE = gumbel_TE + torch.from_numpy(popularity).float()
    routing = ROUTERS[problem.router](logits_TE, problem.K)
    ids_TK = routing.ids_TK
    if load.trace is not None:
        # The largest weight goes to the first choice of the trace, and so on: the router's answer to the same logits
        # with each token's experts renamed.
        window_TK = load.trace.window(problem.T, np.random.default_rng(seed))
        ids_TK = torch.from_numpy(window_TK).clamp(min=NO_ROUTE)
    return Routing(ids_TK=ids_TK.to(device), gates_TK=routing.gates_TK.to(device), experts=routing.experts)
