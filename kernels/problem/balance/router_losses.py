"""Losses and entropies of routers: how evenly, and how surely, tokens spread over the experts.

All are float32 scalars, differentiable in probabilities or logits, without their coefficients.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..routing import count_routes


def load_balancing_loss(probabilities_TE: Tensor, ids_TK: Tensor) -> Tensor:
    """Return E Σ_e f_e P_e: 1 if balanced, E if all goes to one expert.

    P_e is the mean probability of an expert, f_e its share of all routes (Fedus et al. 2021, equations 4 to 6, for
    K = 1; transformers sums over the K choices, which is K times as much). With the first choices alone as ids it is
    the auxiliary loss of GShard (Lepikhin et al. 2020, algorithm 1) times E.
    """
    experts = probabilities_TE.shape[1]
    counts_E = count_routes(ids_TK, experts).float()
    share_E = counts_E / counts_E.sum().clamp(min=1)
    return experts * (share_E * probabilities_TE.mean(0)).sum()


def squared_variation(amounts_E: Tensor) -> Tensor:
    """Return the squared coefficient of variation: variance over squared mean, 0 for equal amounts.

    Of the summed gates it is the importance loss, of the rows the load (Shazeer et al. 2017, section 4 and appendix A).
    """
    amounts_E = amounts_E.float()
    return amounts_E.var(correction=0) / amounts_E.mean().square().clamp(min=torch.finfo(torch.float32).tiny)


def z_loss(logits_TE: Tensor) -> Tensor:
    """Return the mean square of log Σ_e exp z_e over the tokens (Zoph et al. 2022, "ST-MoE", router z-loss)."""
    return logits_TE.float().logsumexp(-1).square().mean()


def expert_entropy(probabilities_TE: Tensor) -> Tensor:
    """Return H(m) in nats, the entropy of the mean probabilities (Shen et al. 2023, "ModuleFormer")."""
    return _entropy(probabilities_TE.mean(0))


def token_entropy(probabilities_TE: Tensor) -> Tensor:
    """Return H(m|x) in nats, the mean entropy of a token's probabilities (Shen et al. 2023, ModuleFormer).

    H(m) − H(m|x) is the mutual information of tokens and experts, which that work trains for.
    """
    return _entropy(probabilities_TE).mean()


def _entropy(probabilities: Tensor) -> Tensor:
    entropies: Tensor = torch.special.entr(probabilities.float())
    return entropies.sum(-1)
