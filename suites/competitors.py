"""Rules for who competes in a suite, computed from what the kernels say of themselves."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal

from ..kernels.catalog import KERNELS

if TYPE_CHECKING:
    from ..kernels.kernel import Kernel  # imports torch
    from ..kernels.problem import Problem

Group = Literal["dropless", "dropping", "between ranks", "peers", "references", "routers"]

_PEER: Final = "peer"
_ROUTER: Final = "router"
_MEMBERS: Final[Mapping[Group, Callable[[Kernel], bool]]] = {
    "dropless": lambda kernel: not kernel.between_ranks and not kernel.is_reference and kernel.family != _PEER,
    "dropping": lambda kernel: not kernel.between_ranks and kernel.drops and not kernel.is_reference,
    "between ranks": lambda kernel: kernel.between_ranks,
    "peers": lambda kernel: kernel.family == _PEER,
    "references": lambda kernel: kernel.is_reference and kernel.family != _ROUTER,
    "routers": lambda kernel: kernel.family == _ROUTER,
}


@dataclass(frozen=True, kw_only=True)
class CompetitorRule:
    """Every kernel of some groups that is made for the device, but for those that are left out.

    The groups are our implementations for one rank, all of them (``dropless``) or those that honour a capacity
    (``dropping``), those ``between ranks``, the ``peers`` of other projects, and the ``references``, whose rates the
    others are compared with. ``routers`` is the router alone, a part of the layer. ``leave_out`` maps the name of a
    kernel to the reason, ``also`` are kernels of other groups. A new implementation takes part without being named
    anywhere.
    """

    groups: tuple[Group, ...]
    leave_out: Mapping[str, str] = field(default_factory=dict)
    also: tuple[str, ...] = ()

    def leaving_out(self, more: Mapping[str, str]) -> CompetitorRule:
        """Return the same rule with more kernels left out."""
        return dataclasses.replace(self, leave_out={**self.leave_out, **more})

    def and_references(self) -> CompetitorRule:
        """Return the same rule with the reference rates beside the others."""
        return dataclasses.replace(self, groups=(*self.groups, "references"))

    def kernels(self, device_type: str) -> tuple[str, ...]:
        """Return the names of the kernels that compete on a device, sorted. Imports every kernel."""
        return tuple(name for name in KERNELS.names() if self._takes(KERNELS.load(name), device_type))

    def _takes(self, kernel: Kernel, device_type: str) -> bool:
        asked = kernel.name not in self.leave_out and device_type in kernel.devices
        member = kernel.name in self.also or any(_MEMBERS[group](kernel) for group in self.groups)
        return asked and member


def fitting(rule: CompetitorRule, baseline: str, problem: Problem, device_type: str) -> tuple[CompetitorRule, str]:
    """Return who competes on a problem, and the baseline: those of a suite where they can take part.

    Else, on a problem that a user has made out of the suite's, all who share experts between ranks, or all who drop.
    """
    if problem.ranks > 1:
        if "between ranks" not in rule.groups:
            return CompetitorRule(groups=("between ranks",)), "alltoall"
    elif problem.capacity_factor is not None and not {"dropping", "between ranks"} & set(rule.groups):
        return CompetitorRule(groups=("dropping",)), "padded" if device_type == "cpu" else "triton_scatter"
    return rule, baseline
