"""Adapter to the experts of Hugging Face transformers; its kernels differ in `experts_implementation` only."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, ClassVar, cast

import torch
from torch import Tensor
from torch.func import functional_call

from ...common.packages import Release, Unusable, use
from ..config import Config
from ..kernel import Cost, Layer
from ..problem import ELEMENT_BYTES, Problem
from ..problem.routing import Routing
from ..problem.tensors import Weights
from ..torch_ops.activations import multiplies_up
from ._peer import Adapter

if TYPE_CHECKING:
    from transformers import MixtralConfig
    from transformers.models.mixtral.modeling_mixtral import MixtralExperts


def _mixtral() -> tuple[type[MixtralConfig], type[MixtralExperts]]:
    """Import what transformers 5 has and transformers 4 has not. It takes seconds, so it waits until it is needed."""
    from transformers import MixtralConfig
    from transformers.models.mixtral.modeling_mixtral import MixtralExperts

    return MixtralConfig, MixtralExperts


@cache  # an import that fails starts from the beginning each time
def _missing() -> str | None:
    """Return None, or why transformers cannot be used, with the remedy."""
    try:
        use("transformers", _mixtral, remedy="pip install 'moebench[peers]'")
    except Unusable as error:
        return str(error)
    return None


class TransformersExperts(Adapter):
    """``MixtralExperts`` of transformers 5 with one of its values of ``experts_implementation``."""

    read_against: ClassVar[Release] = Release("transformers", "5.23.0", "src/transformers/integrations/moe.py")
    implementation: str

    def supports(self, problem: Problem, device: torch.device) -> str | None:
        return _missing() or self.refuses(problem)

    def refuses(self, problem: Problem) -> str | None:
        if not problem.gated:
            return f"MixtralExperts are gated, the problem has gated = {problem.gated}"
        if not multiplies_up(problem.activation):
            return f"MixtralExperts multiply by the up half as it is, which activation = {problem.activation} changes"
        return super().refuses(problem)

    def build(self, problem: Problem, config: Config, device: torch.device) -> Layer:
        mixtral_config, mixtral_experts = _mixtral()
        settings = mixtral_config(
            hidden_size=problem.D,
            intermediate_size=problem.F,
            num_local_experts=problem.E,
            num_experts_per_tok=problem.K,
            hidden_act="gelu_pytorch_tanh" if problem.activation == "gelu_tanh" else problem.activation,
        )
        settings._experts_implementation = self.implementation  # noqa: SLF001  # what from_pretrained sets
        with torch.device("meta"):
            experts = mixtral_experts(settings)

        def layer(x_TD: Tensor, routing: Routing, weights: Weights) -> Tensor:
            parameters = {"gate_up_proj": weights.w_up_EUD, "down_proj": weights.w_down_EDF}
            arguments = (x_TD, routing.ids_TK.long(), routing.gates_TK)
            return cast(Tensor, functional_call(experts, parameters, arguments))

        return layer

    def cost(self, problem: Problem, config: Config, routing: Routing) -> Cost:
        workspace = problem.N * row_width(problem) * ELEMENT_BYTES[problem.dtype]
        return Cost(executed_rows=problem.N, workspace_bytes=workspace)


def row_width(problem: Problem) -> int:
    """Return the elements that one routed row takes: its token, both halves, their product, and the output twice."""
    return 3 * problem.D + problem.U + 2 * problem.F
