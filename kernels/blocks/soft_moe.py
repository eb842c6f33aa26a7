"""Soft MoE: slots, each a weighted mean of all tokens of a sequence, in place of routes; its time is flat in E.

Puigcerver et al. 2023, "From Sparse to Soft Mixtures of Experts", section 2.1 and algorithm 1, with the normalisation
of tokens and slots of section 2.3.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from ..problem import Problem
from ..problem.block import DrawsRoutes, ExpertBlock, Experts, TrueExperts
from ..problem.parametrised import parameter

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from ..problem.routing import Routing
    from ..problem.tensors import Weights

SLOTS = "layer_slots"


@dataclass(frozen=True)
class SoftMoe(ExpertBlock, DrawsRoutes):
    """Y = C f(Dᵀ X) for every sequence, where f runs slot s through expert s // ``slots``.

    With X̂ and Φ̂ the tokens and the slots' parameters, each row divided by its norm, D and C are exp(scale X̂ Φ̂ᵀ) (L, S),
    divided by the sums of its columns and of its rows. ``slots`` is their number for each expert, S that of all.
    ``length`` is L, the tokens of a sequence, of which the last may have fewer; 0 makes one sequence of all tokens. The
    published layer learns ``scale``, a number whose gradient is a sum over everything that nearly cancels.
    """

    slots: int = parameter(1, least=1, most=1 << 20)
    length: int = parameter(0, least=0, most=1 << 30)
    scale: float = parameter(1.0, least=0.01, most=100.0)

    by_token: ClassVar[bool] = False

    def refuses(self, problem: Problem) -> str | None:
        if problem.K != 1:
            return f"has one expert for a slot: give K = 1, not {problem.K}"
        if problem.capacity_factor is not None:
            return f"drops nothing: leave out capacity_factor = {problem.capacity_factor:g}"
        if problem.load != "uniform":
            return "fills every slot alike: give load = 'uniform'"
        return None

    def _sequences(self, problem: Problem) -> int:
        return math.ceil(problem.T / self._length(problem))

    def _length(self, problem: Problem) -> int:
        return self.length or max(1, problem.T)

    def core(self, problem: Problem) -> Problem:
        slots = self._sequences(problem) * problem.E * self.slots
        return problem.replace(block="", T=slots, router="softmax_topk_renorm")

    def shapes(self, problem: Problem) -> dict[str, tuple[int, int]]:
        return {SLOTS: (problem.E * self.slots, problem.D)}

    def routes(self, problem: Problem, *, seed: int, device: torch.device) -> Routing:
        """Return one route for every slot of every sequence, of weight 1."""
        import torch  # noqa: PLC0415  # problems are made where torch is not wanted

        from ..problem.routing import Routing  # noqa: PLC0415

        expert_S = torch.arange(problem.E, dtype=torch.int32, device=device).repeat_interleave(self.slots)
        ids_N1 = expert_S.repeat(self._sequences(problem))[:, None]
        gates_N1 = torch.ones(ids_N1.shape, dtype=torch.float32, device=device)
        return Routing(ids_TK=ids_N1, gates_TK=gates_N1, experts=problem.E)

    def own_flops(self, problem: Problem) -> int:
        return 6 * problem.T * problem.D * problem.E * self.slots

    def own_elements(self, problem: Problem) -> int:
        slots = problem.E * self.slots
        pairs = problem.T * slots  # scores, and both of their normalised forms
        rows = problem.T + 2 * self._sequences(problem) * slots
        return 2 * (3 * pairs + rows * problem.D) if problem.mode == "train" else 3 * pairs + rows * problem.D

    def forward(self, problem: Problem, experts: Experts, x_TD: Tensor, routing: Routing, weights: Weights) -> Tensor:
        import torch  # noqa: PLC0415
        from torch.nn import functional  # noqa: PLC0415

        from ..instruments.stage import stage  # noqa: PLC0415

        length, sequences = self._length(problem), self._sequences(problem)
        absent = sequences * length - problem.T
        with stage("dispatch"):
            x_BLD = functional.pad(x_TD, (0, 0, 0, absent)).unflatten(0, (sequences, length))
            slot_SD = functional.normalize(weights.own[SLOTS].float(), dim=-1).mul(self.scale).to(x_TD.dtype)
            # Norms and softmaxes in float32: scores are small differences of numbers below the scale.
            score_BLS = (functional.normalize(x_BLD.float(), dim=-1).to(x_TD.dtype) @ slot_SD.mT).float()
        with stage("combine"):
            combine_BLS = score_BLS.softmax(-1).to(x_TD.dtype)
        with stage("dispatch"):
            if absent:
                stands_T = torch.arange(sequences * length, device=x_TD.device) < problem.T
                score_BLS = score_BLS.masked_fill(~stands_T.view(sequences, length, 1), -math.inf)
            dispatch_BLS = score_BLS.softmax(1).to(x_TD.dtype)
            in_ND = (dispatch_BLS.mT @ x_BLD).flatten(0, 1)
        out_BSD = experts(in_ND, routing, weights).unflatten(0, (sequences, len(slot_SD)))
        with stage("combine"):
            y_TD: Tensor = (combine_BLS @ out_BSD).flatten(0, 1)
            return y_TD[: problem.T]

    def truth(self, problem: Problem, experts: TrueExperts, tensors: Mapping[str, Tensor]) -> Tensor:
        import torch  # noqa: PLC0415

        sequences = tensors["x"].split(self._length(problem)) if problem.T else ()
        slot_SD = tensors[SLOTS] / tensors[SLOTS].square().sum(1, keepdim=True).sqrt()
        weights = []
        for x_LD in sequences:
            x_norm_LD = x_LD / x_LD.square().sum(1, keepdim=True).sqrt()
            weights.append((self.scale * x_norm_LD @ slot_SD.T).exp())
        means = [(w_LS / w_LS.sum(0)).T @ x_LD for w_LS, x_LD in zip(weights, sequences, strict=True)]
        out_ND = experts(torch.cat([tensors["x"][:0], *means]), tensors["gates"])
        outputs = out_ND.split(len(slot_SD)) if problem.T else ()
        rows = [(w_LS / w_LS.sum(1, keepdim=True)) @ y_SD for w_LS, y_SD in zip(weights, outputs, strict=True)]
        return torch.cat([out_ND[:0], *rows])


block = SoftMoe
