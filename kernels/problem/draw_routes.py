"""Routes drawn for a problem: its load gives the logits, its router chooses."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from .load import Load
from .problem import Problem
from .router import Router, RouterInputs
from .routing import NO_ROUTE, Routing
from .texts.hashed_experts import hashed_logits
from .texts.hashed_words import VOCABULARY
from .texts.novel import novel_ids
from .trace import window


def routed(router: str, logits_TE: Tensor, K: int) -> Routing:
    """Return the routes that the router of this text (`Router.parse`) makes of logits (T, E)."""
    return route(Router.parse(router), RouterInputs(logits_TE=logits_TE), K)


def route(router: Router, inputs: RouterInputs, K: int) -> Routing:
    """Return the routes to experts that a router makes of its inputs; those to extra columns are left out."""
    refuse_nan(inputs.logits_TE)
    return to_experts(router, inputs, router.route(inputs, K))


def to_experts(router: Router, inputs: RouterInputs, chosen: tuple[Tensor, Tensor]) -> Routing:
    """Return the routes among chosen ids and gates (`Router.route`) that are to experts, not to extra columns."""
    experts = inputs.logits_TE.shape[1] - router.extra_columns
    ids_TK, gates_TK = chosen
    if router.extra_columns:
        ids_TK = ids_TK.masked_fill(ids_TK >= experts, NO_ROUTE)
    return Routing(ids_TK=ids_TK, gates_TK=gates_TK, experts=experts)


def refuse_nan(logits_TE: Tensor) -> None:
    """Raise ValueError for a token whose logits on a CPU have a NaN; for another device the host would wait."""
    # A sum without NaN has none among its numbers; one of both infinities is NaN too.
    if logits_TE.device.type != "cpu" or not bool(logits_TE.detach().sum().isnan()):
        return
    nan_T = logits_TE.isnan().any(-1)
    if not bool(nan_T.any()):
        return
    token = int(nan_T.nonzero()[0, 0])
    expert = int(logits_TE[token].isnan().nonzero()[0, 0])
    raise ValueError(f"the logit of token {token} for expert {expert} is NaN: look for its cause before the router")


def check_seed(problem: Problem, turn: int = 0) -> int:
    """Return the seed of the tokens of a trial's check: of the first one, before timing, or of the one after it."""
    return 2 * problem.seed + 1 + turn


def draw_routes(problem: Problem, *, seed: int, device: torch.device) -> Routing:
    """Draw routes for a problem under its load: the same numbers for the same seed on every device.

    The popularity of the experts depends on ``problem.seed`` alone. ``seed`` draws the tokens; of a text or a trace it
    draws the window. Gate weights are those of the trace, or where it has none the router's.
    """
    load, router = Load.parse(problem.load), Router.parse(problem.router)
    if load.trace is None:
        routing = route(router, draw_router_inputs(problem, seed=seed), problem.K)
    else:
        window_TK, recorded_TK = load.trace.window(problem.T, np.random.default_rng(seed))
        if recorded_TK is None:
            # The largest weight goes to the first choice of the trace, and so on: the router's answer to the same
            # logits with each token's experts renamed.
            gates_TK = route(router, draw_router_inputs(problem, seed=seed), problem.K).gates_TK
        else:
            gates_TK = torch.from_numpy(recorded_TK)
        ids_TK = torch.from_numpy(window_TK).clamp(min=NO_ROUTE)
        routing = Routing(ids_TK=ids_TK, gates_TK=gates_TK, experts=problem.E)
    return Routing(ids_TK=routing.ids_TK.to(device), gates_TK=routing.gates_TK.to(device), experts=routing.experts)


def draw_router_inputs(problem: Problem, *, seed: int) -> RouterInputs:
    """Draw what the router of a problem sees of its tokens, on the CPU: logits with Gumbel noise (`load`).

    Of a text ``seed`` draws the window of tokens, whose logits for experts are fixed by ``problem.seed``.
    """
    load, router = Load.parse(problem.load), Router.parse(problem.router)
    generator = torch.Generator().manual_seed(seed)
    columns = problem.E + router.extra_columns
    if load.of_text:
        ids = novel_ids()
        token_T = ids[window(problem.T, of=len(ids), rng=np.random.default_rng(seed))]
        logits_TE = torch.from_numpy(hashed_logits(token_T, columns, seed=problem.seed))
        return RouterInputs(logits_TE=logits_TE, token_T=torch.from_numpy(token_T), generator=generator)
    uniform_TE = torch.rand(problem.T, columns, generator=generator).clamp_(min=torch.finfo(torch.float32).tiny)
    gumbel_TE = -torch.log(-torch.log(uniform_TE))
    start = 0
    for population in load.populations(problem.E, problem.T, np.random.default_rng(problem.seed)):
        part_TE = gumbel_TE[start : start + population.tokens, : problem.E]
        part_TE += torch.from_numpy(population.logits_E).float()
        start += population.tokens
    drawn_T = _draw_tokens(load, problem, seed) if router.reads_token_ids else None
    return RouterInputs(logits_TE=gumbel_TE, token_T=drawn_T, generator=generator)


def _draw_tokens(load: Load, problem: Problem, seed: int) -> Tensor:
    """Draw token ids, int64 (T,): the load's popularity of experts is that of the ids of a vocabulary."""
    rng, parts = np.random.default_rng(seed), []
    for population in load.populations(VOCABULARY, problem.T, np.random.default_rng(problem.seed)):
        weight_V = np.exp(population.logits_E - population.logits_E.max())
        parts.append(rng.choice(VOCABULARY, size=population.tokens, p=weight_V / weight_V.sum()))
    return torch.from_numpy(np.concatenate(parts))
