"""Everything, the fastest by prediction first, with the samples that make a truth to judge others by."""

from __future__ import annotations

from ..strategy import TRUTH_SAMPLES, Ask, Strategy


class Exhaustive(Strategy):
    """Measures every configuration once, as declared where there is no prediction."""

    def _next(self) -> Ask | None:
        known = {*self.told, *self.told.failed, *self._pending}
        return next((Ask(index, TRUTH_SAMPLES) for index in self._ranking() if index not in known), None)


strategy = Exhaustive
