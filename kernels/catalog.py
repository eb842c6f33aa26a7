"""The catalog of kernels: one file each in ``implementations``, imported when it is needed."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ..common.errors import in_one_line
from ..common.names import UnknownName
from ..common.plugins import Catalog

if TYPE_CHECKING:
    from .kernel import Kernel


@dataclass(frozen=True)
class Kernels(Catalog["Kernel"]):
    """All kernels. A file that cannot be imported is represented by a kernel that refuses every problem."""

    unimportable: dict[str, Kernel] = field(default_factory=dict)

    def load(self, name: str) -> Kernel:
        """Return the kernel of that name, or its replacement where its file cannot be imported.

        Raises:
            UnknownName: with the nearest valid names.
        """
        if name in self.unimportable:  # an import that fails starts from the beginning each time
            return self.unimportable[name]
        try:
            return super().load(name)
        except UnknownName:
            raise
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # noqa: BLE001  # whatever a file raises is its reason
            from .unimportable import Unimportable  # noqa: PLC0415  # imports torch

            reason = f"{name}.py cannot be imported ({in_one_line(error)}); mend it, or leave the kernel out"
            self.unimportable[name] = Unimportable(name, reason)
            return self.unimportable[name]

    def preferred(self, device_type: str) -> list[Kernel]:
        """Return the kernels that have a place in the order of this device type (`Kernel.preference`), in order."""
        placed = [kernel for kernel in map(self.load, self.names()) if device_type in kernel.preference]
        return sorted(placed, key=lambda kernel: (kernel.preference[device_type], kernel.name))


KERNELS = Kernels("kernel", f"{__package__}.implementations", "kernel")
