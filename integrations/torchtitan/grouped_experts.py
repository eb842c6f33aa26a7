"""Module for torchtitan's `GroupedExperts` that runs moebench's kernels on the same parameters.

Read against torchtitan 0.3.0 (torchtitan/models/common/moe.py; the same at commit
b5bcd76c66d0acb1a08b176d9639425bc55e0b2a of pytorch/torchtitan, where only `RoutedExperts` differs).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor
from torchtitan.models.common.moe import GroupedExperts

from ...kernels.tuned.select import AUTO, check_dispatch
from .sorted_rows import apply_to_sorted_rows

PARAMETERS: Final = {"w1_EFD", "w2_EDF", "w3_EFD"}
"""Parameters that are read: gate, down and up."""


class MoebenchGroupedExperts(GroupedExperts):  # type: ignore[misc]  # torchtitan is not installed where types are checked
    """Experts with the parameters, sharding, initialisation and checkpoints of torchtitan's own.

    Like its own they multiply in bfloat16, whatever dtype rows and parameters have, on the local part of DTensors: with
    expert parallelism those of the rank's experts, with tensor parallelism a part of F, whose sums torchtitan adds.

    Raises:
        ValueError: at construction, when this torchtitan has given the experts parameters that are not read here.
        UnknownName: at construction, when no kernel has the name that is given.
    """

    @dataclass(kw_only=True, slots=True)
    class Config(GroupedExperts.Config):  # type: ignore[misc]  # as above
        """torchtitan's own fields, and the name of a kernel of `moebench list kernels`, or ``auto``."""

        dispatch: str = AUTO

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        check_dispatch(config.dispatch)
        self.dispatch = config.dispatch
        if (found := {name for name, _ in self.named_parameters()}) != PARAMETERS:
            raise ValueError(
                f"torchtitan's experts have the parameters {', '.join(sorted(found))}, and moebench reads "
                f"{', '.join(sorted(PARAMETERS))}: leave out its override, or install torchtitan 0.3.0"
            )

    def forward(self, x_RD: Tensor, num_tokens_per_expert_E: Tensor) -> Tensor:
        """Return the outputs of rows (R, D) that lie sorted by expert, in the dtype of the rows.

        ``num_tokens_per_expert_E`` counts the rows of each expert; rows after the last of them give zero.
        """
        gate_EFD, down_EDF, up_EFD = (_local(w).bfloat16() for w in (self.w1_EFD, self.w2_EDF, self.w3_EFD))
        with torch.autocast(x_RD.device.type, enabled=False):  # which would choose another dtype
            y_RD = apply_to_sorted_rows(
                gate_EFD, up_EFD, down_EDF, x_RD.bfloat16(), num_tokens_per_expert_E, dispatch=self.dispatch
            )
        return y_RD.type_as(x_RD)


def _local(parameter: Any) -> Tensor:
    """Return the part of a parameter that this rank holds."""
    local: Tensor = parameter.to_local() if hasattr(parameter, "to_local") else parameter
    return local
