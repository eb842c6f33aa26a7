"""Experts of transformers that are a module each: those of the Switch Transformer and of NLLB-MoE."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ...kernels.module.hugging_face import activation_of
from ...kernels.problem.tensors import Weights
from .converted_weights import converted
from .replaced_forwards import Apply, OwnForward


@dataclass(frozen=True, kw_only=True)
class DenseExperts(OwnForward):
    """Experts that are a module each, with two linear maps and an activation between them.

    Where a map is not torch's own, as a quantizer's and an adapter's are not, where the two have different dtypes, and
    where dropout is drawn, the module's own forward runs.
    """

    up: str
    """The name of the first linear map in an expert."""
    down: str
    """The name of the second."""
    gated: bool = False

    how = "copied"

    def sizes(self, experts: Any) -> tuple[int, int, int]:
        return experts.num_experts, *getattr(experts["expert_0"], self.down).weight.shape

    def weights(self, experts: Any) -> Weights:
        sources: dict[str, Tensor] = {}
        for side, name in (("up", self.up), ("down", self.down)):
            for i, expert in enumerate(_dense_modules(experts)):
                linear = getattr(expert, name)
                sources[f"w_{side} {i}"] = linear.weight
                if self.bias:
                    sources[f"b_{side} {i}"] = linear.bias
        stacked = converted(experts, sources, _stacked)
        return Weights(
            w_up_EUD=stacked["w_up"],
            w_down_EDF=stacked["w_down"],
            b_up_EU=stacked.get("b_up"),
            b_down_ED=stacked.get("b_down"),
        )

    def runs(self, experts: Any) -> bool:
        for expert in _dense_modules(experts):
            up, down = getattr(expert, self.up), getattr(expert, self.down)
            if not (_is_plain(up) and _is_plain(down) and up.weight.dtype == down.weight.dtype):
                return False
            if expert.dropout.training and expert.dropout.p > 0:
                return False
        return True


class SwitchTransformers(DenseExperts):
    """Experts of the Switch Transformer, called with a mask (T, 1, E) that is zero for a token without an expert."""

    @staticmethod
    def of(experts: Any) -> OwnForward:
        return _dense(SwitchTransformers, experts, up="wi", down="wo")

    def forward(self, experts: Any, apply: Apply, hidden_states: Tensor, ids: Tensor, gates: Tensor) -> Tensor:
        chosen = torch.where(ids.any(-1), ids.argmax(-1), experts.num_experts)  # the number itself is no route
        return apply(hidden_states, chosen, gates)


class NllbMoe(DenseExperts):
    """Experts of NLLB-MoE, whose results are made smaller by the rate of the dropout of training."""

    @staticmethod
    def of(experts: Any) -> OwnForward:
        return _dense(NllbMoe, experts, up="fc1", down="fc2")

    def runs(self, experts: Any) -> bool:
        return super().runs(experts) and not (experts.training and experts.moe_token_dropout > 0)

    def forward(self, experts: Any, apply: Apply, hidden_states: Tensor, ids: Tensor, gates: Tensor) -> Tensor:
        return apply(hidden_states, ids, gates * (1 - experts.moe_token_dropout))


def _dense(adapter: type[DenseExperts], experts: Any, *, up: str, down: str) -> DenseExperts:
    first, name = experts["expert_0"], type(experts).__name__
    unread = {
        type(linear).__name__
        for expert in _dense_modules(experts)
        for linear in (getattr(expert, up), getattr(expert, down))
        if not _is_plain(linear)
    }
    if unread:
        raise ValueError(f"{name} multiplies by {', '.join(sorted(unread))}, whose weights would not be read")
    activation = activation_of(name, lambda gate, _: first.act(gate), gated=False)
    bias = getattr(first, up).bias is not None
    return adapter(kind=type(experts), activation=activation, bias=bias, up=up, down=down)


def _dense_modules(experts: Any) -> list[Any]:
    return [experts[f"expert_{i}"] for i in range(experts.num_experts)]


def _is_plain(linear: nn.Module) -> bool:
    """Return whether a module multiplies by its weight as it is, or as a parametrisation computes it."""
    return type(linear).forward is nn.Linear.forward and "forward" not in vars(linear)


def _stacked(sources: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Stack tensors named "w_up 0", "w_up 1", … to one each."""
    lists: dict[str, list[Tensor]] = {}
    for name, tensor in sources.items():
        lists.setdefault(name.split()[0], []).append(tensor)
    return {name: torch.stack(tensors) for name, tensors in lists.items()}
