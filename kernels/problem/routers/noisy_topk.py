"""Top k of logits with learned Gaussian noise, weighted by a softmax over them (Shazeer et al. 2017, eq. 3 to 5)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..parametrised import parameter
from ..router import Router, RouterInputs
from ..topk_rule import TopkRule, choose, weigh

if TYPE_CHECKING:
    from torch import Tensor

RULE = TopkRule(score="softmax", renormalise=True)


@dataclass(frozen=True)
class NoisyTopk(Router):
    """H_e = z_e + N(0, 1) (softplus(n_e) + least), of which a token takes the K largest, weighted by their softmax.

    The raw scales n are `RouterInputs.noise_TE`, the product of the tokens with ``noise_weight``; zeros where they are
    None, as before training. ``least`` is the smallest standard deviation. The importance loss is
    `balance.router_losses.squared_variation` of the summed gates, the load loss that of `smooth_load`. Gates add up
    to 1.
    """

    least: float = parameter(0.01, least=0.0, most=100.0)

    @property
    def follows_load(self) -> bool:
        return False

    def shapes(self, *, D: int, E: int) -> dict[str, tuple[int, ...]]:
        return {"weight": (E, D), "noise_weight": (E, D)}

    def project(self, x_TD: Tensor, parameters: Mapping[str, Tensor], *, E: int) -> RouterInputs:
        x_TD = x_TD.float()
        return RouterInputs(
            logits_TE=x_TD @ parameters["weight"].float().mT, noise_TE=x_TD @ parameters["noise_weight"].float().mT
        )

    def scale(self, inputs: RouterInputs) -> Tensor:
        """Return the standard deviation of the noise on every logit, float32 (T, E)."""
        import torch

        raw_TE = torch.zeros_like(inputs.logits_TE) if inputs.noise_TE is None else inputs.noise_TE
        return torch.nn.functional.softplus(raw_TE.float()) + self.least

    def route(self, inputs: RouterInputs, K: int) -> tuple[Tensor, Tensor]:
        return self.route_noisy(inputs, self.noisy(inputs), K)

    def noisy(self, inputs: RouterInputs) -> Tensor:
        """Return the logits with noise, float32 (T, E)."""
        import torch

        logits_TE = inputs.logits_TE.float()
        normal_TE = torch.randn(logits_TE.shape, generator=inputs.generator, device=logits_TE.device)
        return logits_TE + normal_TE * self.scale(inputs)

    def route_noisy(self, inputs: RouterInputs, noisy_TE: Tensor, K: int) -> tuple[Tensor, Tensor]:
        """Choose by logits that `noisy` made of the inputs."""
        ids_TK = choose(RULE, noisy_TE, inputs.bias_E, K)
        return ids_TK.int(), weigh(RULE, noisy_TE, ids_TK)

    def smooth_load(self, inputs: RouterInputs, noisy_TE: Tensor, K: int) -> Tensor:
        """Return Σ_t P(t, e), float32 (E,), differentiable in the logits (appendix A of the paper).

        P is the probability that an expert would be among the K if its noise alone were drawn again: Φ of its clean
        logit less the K-th largest of the other noisy logits, over the standard deviation. With K = E it is 1.
        """
        import torch

        experts = noisy_TE.shape[1]
        if experts == K:
            return noisy_TE.new_full((experts,), len(noisy_TE))
        largest_TK = noisy_TE.topk(K + 1, dim=-1).values
        within_TE = noisy_TE > largest_TK[:, K:]
        threshold_TE = torch.where(within_TE, largest_TK[:, K:], largest_TK[:, K - 1 : K])
        distance_TE = (inputs.logits_TE.float() - threshold_TE) / self.scale(inputs)
        return (0.5 * (1 + torch.erf(distance_TE / math.sqrt(2)))).sum(0)


router = NoisyTopk
