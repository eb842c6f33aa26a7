"""The uniform load, in the place of `kernels.problem.load`: no table of another one is in the folder."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True)
class UniformLoad:
    """The load by which kernels are chosen."""

    name: str = "uniform"
    trace: ClassVar[None] = None
    leaves_out: ClassVar[bool] = False

    @staticmethod
    def parse(spec: str) -> UniformLoad:
        """Return it for its name.

        Raises:
            ValueError: for another name.
        """
        if spec != "uniform":
            raise ValueError(f"load = {spec!r}: give uniform")
        return UniformLoad()

    def check(self, *, experts: int, chosen: int) -> None:
        """Raise ValueError when there are fewer experts than a token chooses."""
        if experts < chosen:
            raise ValueError(f"E = {experts} experts: K = {chosen} do not fit")


Load = UniformLoad
