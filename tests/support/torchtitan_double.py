"""Test double of the parts of torchtitan that its override meets, for where torchtitan is not installed.

Its names, signatures, parameters and arithmetic are those of torchtitan 0.3.0, from torchtitan/models/common/moe.py and
torchtitan/config/override.py of pytorch/torchtitan at commit b5bcd76c66d0acb1a08b176d9639425bc55e0b2a.
"""

from __future__ import annotations

import importlib
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from importlib.util import find_spec
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

INSTALLED = find_spec("torchtitan") is not None


class GroupedExperts(nn.Module):
    """Experts on rows that are sorted by expert, multiplied in bfloat16."""

    @dataclass(kw_only=True, slots=True)
    class Config:
        dim: int
        hidden_dim: int
        num_experts: int
        param_init: dict[str, Any] | None = None
        sharding_config: Any = None

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.num_experts = config.num_experts
        wide, narrow = (config.num_experts, config.hidden_dim, config.dim), (config.num_experts, config.dim)
        self.w1_EFD = nn.Parameter(torch.empty(wide))
        self.w2_EDF = nn.Parameter(torch.empty(*narrow, config.hidden_dim))
        self.w3_EFD = nn.Parameter(torch.empty(wide))

    def forward(self, x_RD: Tensor, num_tokens_per_expert_E: Tensor) -> Tensor:
        w1, w2, w3 = (
            (w.to_local() if hasattr(w, "to_local") else w).bfloat16() for w in (self.w1_EFD, self.w2_EDF, self.w3_EFD)
        )
        outputs, start = [], 0
        for expert, count in enumerate(num_tokens_per_expert_E.tolist()):
            x = x_RD[start : start + count].bfloat16()
            h = functional.silu(x @ w1[expert].T) * (x @ w3[expert].T)
            outputs.append(h @ w2[expert].T)
            start += count
        return torch.cat(outputs).type_as(x_RD)


def derive(source: Any, target_cls: Any, **deltas: object) -> Any:
    shared = {field.name: getattr(source, field.name) for field in fields(source)}
    return target_cls(**{**shared, **deltas})


def override(*, target: type, exact: bool = False, description: str = "") -> Callable[..., Any]:
    assert exact
    assert description
    assert target is GroupedExperts.Config
    return lambda factory: factory


@contextmanager
def importable_torchtitan() -> Iterator[None]:
    """Let torchtitan be imported: the installed one, else the double."""
    if INSTALLED:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # those of its own imports
            importlib.import_module("torchtitan.models.common.moe")
        yield
        return
    config, moe = ModuleType("torchtitan.config"), ModuleType("torchtitan.models.common.moe")
    vars(config).update(derive=derive, override=override)
    vars(moe).update(GroupedExperts=GroupedExperts)
    with pytest.MonkeyPatch.context() as patch:
        for name in ("torchtitan", "torchtitan.models", "torchtitan.models.common"):
            patch.setitem(sys.modules, name, ModuleType(name))
        for module in (config, moe):
            patch.setitem(sys.modules, module.__name__, module)
        try:
            yield
        finally:
            for name in ("moebench.torchtitan", "moebench.integrations.torchtitan.grouped_experts"):
                sys.modules.pop(name, None)
