"""Recorder of routes: hooks on the routed experts of a transformers model, which note what they are called with.

Nearly every MoE family of transformers 5 calls one module for all experts of a layer, as ``experts(hidden_states,
top_k_index, top_k_weights)`` with ids and gate weights (tokens, K). Those few that do not are named here by class.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from ...common.errors import UserError
from ..problem.traces.trace_format import LayerDescription, LayerRoutes

if TYPE_CHECKING:
    from torch.nn import Module

Routes = tuple[Tensor, Tensor]
"""Ids and gate weights of the tokens of one call, both (tokens, K), −1 for no route."""
IDS = ("top_k_index", "router_indices")
"""Names of the second argument of experts that are called with ids."""
COUNTS = ("num_routed_experts", "num_experts")
"""Attributes with the number of experts; ids from there on are experts that compute nothing, as of LongCat-Flash."""
REFUSED = {
    "DogeCDMoE": "looks up single neurons by product keys within the layer",
}
"""Classes of layers with experts that no router chooses among, and what they do instead."""


class NothingToRecord(UserError, ValueError):
    """An error for a model or a choice of layers without routed experts; the message has the remedy."""


def _of_llama4(router: Module, output: Any) -> Routes:
    """Read Llama4Router, which returns the sigmoid of chosen logits and 0 for the others, and all logits."""
    scores_TE, logits_TE = output
    ids_TK = logits_TE.topk(int(router.top_k), dim=1).indices  # type: ignore[arg-type]
    return ids_TK, scores_TE.gather(1, ids_TK)


def _of_jetmoe(router: Module, output: Any) -> Routes:
    """Read JetMoeTopKGating, which returns rows sorted by expert, and the logits of which it weighs the largest."""
    values_TK, ids_TK = output[4].topk(int(router.top_k), dim=1)  # type: ignore[arg-type]
    return ids_TK, values_TK.softmax(1).to(output[2].dtype)


def _of_switch(_: Module, output: Any) -> Routes:
    """Read SwitchTransformersTop1Router: a mask (batch, tokens, E), zero for a dropped token, and its probability."""
    mask_TE = output[0].flatten(0, -2)
    ids_T1 = mask_TE.argmax(-1, keepdim=True).masked_fill(mask_TE.sum(-1, keepdim=True) == 0, -1)
    return ids_T1, output[1].reshape(-1, 1)


def _of_nllb(_: Module, output: Any) -> Routes:
    """Read NllbMoeTop2Router: combine weights (tokens, E), which are 0 but for two experts, fewer where dropped."""
    gates_TK, ids_TK = output[1].flatten(0, -2).topk(2, dim=-1)
    return ids_TK.masked_fill(gates_TK == 0, -1), gates_TK


ROUTERS_BY_CLASS: dict[str, Callable[[Module, Any], Routes]] = {
    "Llama4Router": _of_llama4,
    "JetMoeTopKGating": _of_jetmoe,
    "SwitchTransformersTop1Router": _of_switch,
    "NllbMoeTop2Router": _of_nllb,
}


@dataclass(frozen=True)
class RecordedRouter:
    """A module of a model at which a layer's routes are seen: its experts, or a router that is known by its class."""

    name: str
    module: Module
    read: Callable[[Module, Any], Routes] | None
    steps: list[Routes] = field(default_factory=list)

    @property
    def experts(self) -> int:
        """Number of experts that compute something."""
        for attribute in COUNTS:
            if isinstance(found := getattr(self.module, attribute, None), int):
                return found
        raise NothingToRecord(
            f"{type(self.module).__name__} at {self.name} does not say how many experts it has: record other layers"
        )

    def hook(self) -> Any:
        """Note the routes of every call from now on; return the handle that ends it."""
        read = self.read
        if read is not None:
            return self.module.register_forward_hook(lambda module, _, output: self._note(*read(module, output)))
        names = list(inspect.signature(self.module.forward).parameters)

        def called(_: Module, arguments: Sequence[Any], named: dict[str, Any]) -> None:
            given = {**dict(zip(names, arguments, strict=False)), **named}
            self._note(given[names[1]], given[names[2]])

        return self.module.register_forward_pre_hook(called, with_kwargs=True)

    def _note(self, ids_TK: Tensor, gates_TK: Tensor) -> None:
        ids_TK, gates_TK = ids_TK.detach().flatten(0, -2), gates_TK.detach().flatten(0, -2)
        computed_TK = (ids_TK >= 0) & (ids_TK < self.experts)
        self.steps.append((ids_TK.where(computed_TK, -1).int().cpu(), gates_TK.float().cpu()))

    def routes(self) -> LayerRoutes:
        """Return what was noted."""
        ids, gates = (torch.cat(parts).numpy() for parts in zip(*self.steps, strict=True))
        steps = tuple(len(ids_TK) for ids_TK, _ in self.steps)
        layer = LayerDescription(name=self.name, experts=self.experts, steps=steps)
        return LayerRoutes(layer=layer, ids_TK=ids, gates_TK=gates.astype(np.float32))


def find_routers(model: Module) -> list[RecordedRouter]:
    """Return where the routes of each layer can be seen, in the order of the modules.

    Raises:
        NothingToRecord: when there is no such place, naming what there is instead.
    """
    found = list(_routers(model))
    if not found:
        reasons = {
            f"{kind} {REFUSED[kind]}" for module in model.modules() if (kind := type(module).__name__) in REFUSED
        }
        raise NothingToRecord(
            f"{type(model).__name__} has no routed experts that are called with ids and gate weights"
            f"{': ' if reasons else ''}{', '.join(sorted(reasons))}: give a Mixture-of-Experts model"
        )
    return found


def chosen_routers(routers: Sequence[RecordedRouter], layers: Sequence[str]) -> list[RecordedRouter]:
    """Return the routers of these layers, names or numbers as a load names them; all if none is given.

    Raises:
        NothingToRecord: for a layer that there is not, with those there are.
    """
    numbers = [LayerDescription(name=one.name, experts=None, steps=()).number for one in routers]
    for layer in layers:
        if layer not in numbers and layer not in [one.name for one in routers]:
            there = ", ".join(number or one.name for number, one in zip(numbers, routers, strict=True))
            raise NothingToRecord(f"--layers {layer}: the model has no such layer with experts: give some of {there}")
    return [one for number, one in zip(numbers, routers, strict=True) if not layers or {number, one.name} & set(layers)]


@contextmanager
def recording(routers: Sequence[RecordedRouter]) -> Iterator[None]:
    """Note the routes of every forward while the context is open."""
    handles = [one.hook() for one in routers]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _routers(model: Module) -> Iterator[RecordedRouter]:
    for name, module in model.named_modules():
        if (read := ROUTERS_BY_CLASS.get(type(module).__name__)) is not None:
            yield RecordedRouter(name, module, read)
        elif _called_with_ids(module):
            yield RecordedRouter(name, module, None)


def _called_with_ids(module: Module) -> bool:
    names = list(inspect.signature(module.forward).parameters)
    return len(names) > 2 and names[1] in IDS  # hidden states, ids, weights
