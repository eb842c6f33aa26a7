"""The classes of experts whose own forward is replaced, and what replaces it."""

from __future__ import annotations

from torch import nn

from .dense_forwards import NllbMoe, SwitchTransformers
from .gated_forwards import Dbrx, LongcatFlash, Step3p7
from .replaced_forwards import OwnForward

KINDS: dict[str, type[OwnForward]] = {
    "transformers.models.dbrx.modeling_dbrx.DbrxExperts": Dbrx,
    "transformers.models.longcat_flash.modeling_longcat_flash.LongcatFlashExperts": LongcatFlash,
    "transformers.models.nllb_moe.modeling_nllb_moe.NllbMoeExperts": NllbMoe,
    "transformers.models.step3p7.modeling_step3p7.Step3p7Experts": Step3p7,
    "transformers.models.switch_transformers.modeling_switch_transformers.SwitchTransformersExperts": (
        SwitchTransformers
    ),
}
"""Adapters by the class that they are for; code that a checkpoint brings along may have classes of equal names."""


def own_forward_of(experts: nn.Module) -> OwnForward | None:
    """Return how a module that asks for no implementation is taken; None where there is no adapter for its class.

    Raises:
        ValueError: when no kernel here computes what it computes.
    """
    kind = type(experts)
    adapter = KINDS.get(f"{kind.__module__}.{kind.__qualname__}")
    return adapter.of(experts) if adapter else None
