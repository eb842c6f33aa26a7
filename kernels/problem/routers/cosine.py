"""Cosine of a low-dimensional projection of the token and of each expert, softmax, top k (Chi et al. 2022, X-MoE)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..parametrised import parameter
from ..router import RouterInputs
from ..topk_rule import TopkRouter, TopkRule

if TYPE_CHECKING:
    from torch import Tensor

LARGEST = 100.0  # of the factor on cosines, as Tutel bounds it
LEAST_NORM = 1e-4


@dataclass(frozen=True)
class Cosine(TopkRouter):
    """z_e = cos(P x, s_e) min(exp τ, 100), then the probabilities of the K largest, as they are.

    P (``width``, D) projects the token, s (E, ``width``) are the experts, τ is learned: the paper's reduction of the
    dimension, L2 normalisation and learnable temperature, with the bound and the default width of Tutel's cosine gate.
    Gates add up to at most 1.
    """

    width: int = parameter(256, least=1, most=65536)

    @property
    def rule(self) -> TopkRule:
        return TopkRule(score="softmax")

    def shapes(self, *, D: int, E: int) -> dict[str, tuple[int, ...]]:
        return {"projection": (self.width, D), "similarity": (E, self.width), "temperature": (1,)}

    def project(self, x_TD: Tensor, parameters: Mapping[str, Tensor], *, E: int) -> RouterInputs:
        from torch.nn.functional import normalize

        token_TP = normalize(x_TD.float() @ parameters["projection"].float().mT, dim=-1, eps=LEAST_NORM)
        expert_EP = normalize(parameters["similarity"].float(), dim=-1, eps=LEAST_NORM)
        factor = parameters["temperature"].float().clamp(max=math.log(LARGEST)).exp()
        return RouterInputs(logits_TE=token_TP @ expert_EP.mT * factor)


router = Cosine
