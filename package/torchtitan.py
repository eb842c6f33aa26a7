"""Override for torchtitan that computes its routed experts by moebench's kernels.

torchtitan … --override.imports moebench.torchtitan.grouped_experts
torchtitan … --override.imports 'moebench.torchtitan.grouped_experts={"dispatch": "triton_scatter"}'
"""

from __future__ import annotations

from typing import Any

from torchtitan.config import derive, override
from torchtitan.models.common.moe import GroupedExperts

from .integrations.torchtitan.grouped_experts import MoebenchGroupedExperts


# Exactly this class: those derived from it compute something else (biases, quantised products, a fused weight).
@override(target=GroupedExperts.Config, exact=True, description="Routed experts by moebench's kernels.")  # type: ignore[untyped-decorator]  # no types here
def grouped_experts(config: Any, *, dispatch: str = "auto") -> Any:
    """Return the configuration of experts that moebench computes; ``dispatch`` names a kernel."""
    return derive(config, MoebenchGroupedExperts.Config, dispatch=dispatch)
