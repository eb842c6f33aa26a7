"""Registration of the experts implementation "moebench" with Hugging Face transformers.

transformers asks `ALL_EXPERTS_FUNCTIONS` for the forward of an experts module by the name that its configuration has,
and newer ones accept every name that is registered there. They have no hook for an implementation that takes some
models only. So three methods are wrapped, which refuse the others early: ``post_init`` of a model, which ends its
construction, ``set_experts_implementation``, and ``preprocess_model`` of a quantizer, which puts other experts in the
place of those of a model.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import wraps
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from ...common.packages import Unusable, installed_version, use
from ...kernels.tuned.select import AUTO, check_dispatch
from .converted_weights import forget
from .taken_experts import (
    ATTRIBUTE,
    RefusedExperts,
    TakenExperts,
    asks_for_implementation,
    experts_of,
    layout_of,
    take,
)

if TYPE_CHECKING:
    from transformers import PreTrainedModel

NAME = "moebench"
READ_AGAINST = "5.23.0"
"""The version of transformers whose sources this was written for."""
REMEDY = f"install transformers {READ_AGAINST} or newer, or replace the experts by MoELayer.from_experts"


def register() -> None:
    """Let transformers know the name; to call it again does nothing.

    Raises:
        Unusable: when transformers is missing or too old.
    """
    models, interfaces, quantizer = use("transformers", _interfaces, remedy=REMEDY)
    for interface in interfaces:
        interface.register(NAME, experts_forward)
    if not _accepts_registered_names(models):
        version = installed_version("transformers")
        raise Unusable(
            f"transformers {version} takes only the experts implementations that it brings along: {REMEDY}",
            name="transformers",
        )
    for owner, name, wrapped in (
        (models, "post_init", _post_init),
        (models, "set_experts_implementation", _set_experts_implementation),
        (quantizer, "preprocess_model", _preprocess_model),
    ):
        original = getattr(owner, name)
        if not hasattr(original, ATTRIBUTE):
            replacement = wraps(original)(wrapped(original))
            setattr(replacement, ATTRIBUTE, True)
            setattr(owner, name, replacement)


def run_with_moebench(model: PreTrainedModel, *, dispatch: str = AUTO, batch_invariant: bool = False) -> None:
    """Run all experts of a model with moebench; ``dispatch`` and ``batch_invariant`` are those of `MoELayer`.

    It does what ``model.set_experts_implementation("moebench")`` does, which takes no options. Another call changes
    them, and ``model.set_experts_implementation`` with another name ends it.

    Raises:
        RefusedExperts: when moebench cannot run the experts, or the model has none.
        UnknownName: when no kernel is named ``dispatch``.
    """
    check_dispatch(dispatch)
    found = list(experts_of(model))
    if not found:
        raise RefusedExperts(f"{type(model).__name__} has no experts: moebench has nothing to run in it")
    model.set_experts_implementation(NAME)
    for experts in found:
        take(experts, dispatch=dispatch, batch_invariant=batch_invariant)


def experts_forward(self: nn.Module, hidden_states: Tensor, top_k_index: Tensor, top_k_weights: Tensor) -> Tensor:
    """Forward of an experts module, as transformers calls it.

    Ids from ``num_experts`` on are no routes: transformers gives them to what another rank computes.
    """
    taken = getattr(self, ATTRIBUTE, None)
    if not isinstance(taken, TakenExperts):  # the name was written into the configuration
        taken = take(self)
    return taken.forward(self, hidden_states, top_k_index, top_k_weights)


def _interfaces() -> tuple[Any, tuple[Any, ...], Any]:
    """Import what is registered with and what is wrapped."""
    from transformers import PreTrainedModel
    from transformers.integrations.finegrained_fp8 import ALL_FP8_EXPERTS_FUNCTIONS
    from transformers.integrations.moe import ALL_EXPERTS_FUNCTIONS
    from transformers.quantizers.base import HfQuantizer

    return PreTrainedModel, (ALL_EXPERTS_FUNCTIONS, ALL_FP8_EXPERTS_FUNCTIONS), HfQuantizer


def _accepts_registered_names(models: Any) -> bool:
    try:
        return bool(models.get_correct_experts_implementation(None, NAME) == NAME)
    except (AttributeError, ValueError):
        return False


def _post_init(original: Callable[..., None]) -> Callable[..., None]:
    def post_init(self: Any) -> None:
        _take_or_leave(self)
        original(self)

    return post_init


def _preprocess_model(original: Callable[..., Any]) -> Callable[..., Any]:
    def preprocess_model(self: Any, model: Any, *arguments: Any, **options: Any) -> Any:
        result = original(self, model, *arguments, **options)
        for part in _parts(model):
            _take_or_leave(part)
        return result

    return preprocess_model


def _set_experts_implementation(original: Callable[..., None]) -> Callable[..., None]:
    def set_experts_implementation(self: Any, experts_implementation: str | dict[str, str]) -> None:
        for part in _parts(self):
            if _requested(self, part, experts_implementation) == NAME:
                for experts in _own_experts(part):
                    layout_of(experts)  # refused before anything is changed
        original(self, experts_implementation)
        for part in _parts(self):
            _name_own_forwards(part, _requested(self, part, experts_implementation))
            _take_or_leave(part)

    return set_experts_implementation


def _name_own_forwards(part: Any, requested: str | None) -> None:
    """Write the implementation into a configuration that transformers does not change.

    It is that of experts that ask for none: they run with moebench or as they are, which is called "eager".
    """
    if requested is None or part._can_set_experts_implementation():  # noqa: SLF001  # it has no public name
        return
    if any(not asks_for_implementation(experts) for experts in experts_of(part)):
        name = NAME if requested == NAME else "eager"
        part.config._experts_implementation_internal = name  # noqa: SLF001  # what transformers writes as well


def _take_or_leave(model: Any) -> None:
    """Note how the experts of a model are run, where its configuration says so; else free what was kept for them."""
    for experts in _own_experts(model):
        config = getattr(experts, "config", model.config)
        if config._experts_implementation == NAME:  # noqa: SLF001  # it has no public name
            before: TakenExperts | None = getattr(experts, ATTRIBUTE, None)
            take(experts, **(before.options if before else {}))
        elif hasattr(experts, ATTRIBUTE):
            delattr(experts, ATTRIBUTE)
            forget(experts)


def _requested(model: Any, part: Any, implementation: str | dict[str, str]) -> str | None:
    """Return the implementation that a part of a model is to have, by the rules of ``set_experts_implementation``."""
    if isinstance(implementation, str):
        return implementation
    for key in model.config.sub_configs:
        if part is not model and getattr(model.config, key, None) is part.config:
            return implementation.get(key)
    return implementation.get("")


def _parts(model: nn.Module) -> Iterator[Any]:
    """Yield the models in a model, itself first; each has a configuration."""
    return (module for module in model.modules() if hasattr(module, "get_correct_experts_implementation"))


def _own_experts(model: nn.Module) -> Iterator[nn.Module]:
    """Yield the experts of a model without those of the models in it."""
    return experts_of(model, without=lambda module: hasattr(module, "get_correct_experts_implementation"))
