"""Balance of a call's routes, and the losses of its router, for the record."""

from __future__ import annotations

from ...kernels.problem import Problem
from ...kernels.problem.balance.router_losses import (
    expert_entropy,
    load_balancing_loss,
    squared_variation,
    token_entropy,
    z_loss,
)
from ...kernels.problem.balance.routing_statistics import (
    TILES,
    dropped_gates,
    gini,
    importance_E,
    max_over_mean,
    padding,
    sufficient_capacity_factor,
)
from ...kernels.problem.draw_routes import draw_router_inputs
from ...kernels.problem.load import Load
from ...kernels.problem.router import Router
from ...kernels.problem.routing import Routing
from ...results.record import Balance, RouterLosses


def balance_of(problem: Problem, routed: Routing, kept: Routing, *, seed: int) -> Balance | None:
    """Return the balance of the ``routed`` rows of all ranks, drawn with ``seed``, of which the capacity left ``kept``.

    None where nothing is routed.
    """
    counts_E, kept_E = routed.counts_E(), kept.counts_E()
    if not int(counts_E.sum()):
        return None
    return Balance(
        max_over_mean=max_over_mean(counts_E),
        gini=gini(counts_E),
        dead_experts=int((counts_E == 0).sum()),
        load_cv2=float(squared_variation(counts_E)),
        importance_cv2=float(squared_variation(importance_E(routed))),
        dropped_gates=dropped_gates(routed, kept),
        sufficient_capacity_factor=sufficient_capacity_factor(problem, routed),
        padding={tile: padding(kept_E, tile) for tile in TILES},
        losses=_losses(problem, routed, seed=seed),
    )


def _losses(problem: Problem, routed: Routing, *, seed: int) -> RouterLosses | None:
    """Return the losses of a router that chose by logits; a recorded load and token ids have none."""
    router = Router.parse(problem.router)
    if Load.parse(problem.load).trace is not None or router.reads_token_ids:
        return None
    # Drawn again: they are used here only, and every implementation has the memory for itself.
    logits_TE = draw_router_inputs(problem, seed=seed).logits_TE
    probabilities_TE = router.probabilities(logits_TE)[:, : problem.E]
    if router.extra_columns:
        probabilities_TE = probabilities_TE / probabilities_TE.sum(-1, keepdim=True)
    ids_TK = routed.ids_TK.cpu()
    return RouterLosses(
        load_balancing=float(load_balancing_loss(probabilities_TE, ids_TK)),
        first_choices=float(load_balancing_loss(probabilities_TE, ids_TK[:, :1])),
        z=float(z_loss(logits_TE)),
        expert_entropy=float(expert_entropy(probabilities_TE)),
        token_entropy=float(token_entropy(probabilities_TE)),
    )
