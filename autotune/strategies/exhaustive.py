"""Everything, the fastest by prediction first."""

from __future__ import annotations

from ..strategy import Ask, Strategy


class Exhaustive(Strategy):
    """Measures every configuration in full, as declared where there is no prediction."""

    def _next(self) -> Ask | None:
        return self._first_open(self._ranking())


strategy = Exhaustive
