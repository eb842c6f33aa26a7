"""The cosine of projected tokens and expert embeddings over a temperature, then the top k probabilities (X-MoE).

Chi et al. 2022, "On the Representation Collapse of Sparse Mixture of Experts".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..router import Router, RouterInputs, choice, parameter
from ..topk_rule import TopkRule, choose, shares, weigh

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor


@dataclass(frozen=True)
class Cosine(Router):
    """Logits are cos(W x, e_i) / τ, with W (width, D), expert embeddings e (E, width), and τ the learned temperature.

    Gates are the ``gate`` of the K largest: their probability among all experts, or their sigmoid. They are not
    normalised. A vector of zeros has cosine 0 with every other.
    """

    gate: str = choice("softmax", "sigmoid")
    width: int = parameter(16, least=1, most=65_536)

    @property
    def rule(self) -> TopkRule:
        """The rule that is put on the cosines."""
        return TopkRule(score="sigmoid" if self.gate == "sigmoid" else "softmax")

    def route(self, inputs: RouterInputs, K: int) -> tuple[Tensor, Tensor]:
        ids_TK = choose(self.rule, inputs.logits_TE, None, K)
        return ids_TK.int(), weigh(self.rule, inputs.logits_TE, ids_TK)

    def probabilities(self, logits_TE: Tensor) -> Tensor:
        return shares(self.rule.score, logits_TE)

    def shapes(self, *, D: int, E: int) -> dict[str, tuple[int, ...]]:
        """Return the shapes of the projection, of the expert embeddings and of the temperature."""
        return {"projection": (self.width, D), "weight": (E, self.width), "temperature": (1,)}

    def project(self, x_TD: Tensor, parameters: Mapping[str, Tensor]) -> RouterInputs:
        """Return cosines over the temperature, float32."""
        from torch.nn.functional import normalize  # noqa: PLC0415  # problems are made where torch is not wanted

        low_TR = normalize(x_TD.float() @ parameters["projection"].float().mT, dim=-1)
        embeddings_ER = normalize(parameters["weight"].float(), dim=-1)
        return RouterInputs(logits_TE=low_TR @ embeddings_ER.mT / parameters["temperature"].float())


router = Cosine
