"""The check of one timed call of a competitor, which nothing tells from the others beforehand."""

from __future__ import annotations

import secrets
from collections.abc import Callable

from torch import Tensor

from ....kernels.oracle import OF_TOKENS, Result
from ....kernels.problem.tensors import Inputs
from ....results.record import Error
from ..across_ranks import gather
from ..reference_check import ReferenceCheck, refuse_touched
from .timed_inputs import TimedInputs


class UnannouncedCheck:
    """Grades the result of one timed call: which one is drawn, the same on all ranks, of the first ``within``."""

    def __init__(self, check: ReferenceCheck, inputs: TimedInputs, *, within: int) -> None:
        self._check = check
        self._inputs = inputs
        self._calls_before = gather(secrets.randbelow(within))[0]
        self._result: Result | None = None
        self.due = False

    def begin(self, *, now: bool = False) -> None:
        """Prepare the next call, which is the one if it is its turn, or if it is to be ``now``."""
        self.due = now or self._calls_before == 0
        self._calls_before -= 1
        if self.due:
            self._inputs.pose()

    def keep(self, result: object) -> None:
        """Keep the result of the call as it is when the clock stops: what is computed later comes too late.

        On a GPU the copies are queued behind the call, and do not wait for what it started on other streams.
        """
        if self.due and isinstance(result, Result):
            gradients = {name: _copy(of) if name in OF_TOKENS else of for name, of in result.gradients.items()}
            self._result = Result(y_TD=_copy(result.y_TD), gradients=gradients)

    def cancel(self) -> None:
        """Take back what ``begin`` prepared."""
        if self.due:
            self._inputs.withdraw()
            self._result = None

    def changed_weights(self) -> list[str]:
        """Return the names of the weights that are not as they were drawn."""
        return self._inputs.changed_weights(self._check.checksums)

    def grade_now(self, take: Callable[[Inputs], Result]) -> dict[str, Error]:
        """Do as `grade`, with a call that is made now and not timed."""
        self.begin(now=True)
        self.keep(take(self._inputs.sets[self._inputs.used]))
        return self.grade()

    def grade(self) -> dict[str, Error]:
        """Return the errors of the call.

        Raises:
            TouchedInputs: when it wrote to its tokens.
            DeferredResult: when its result is not a plain tensor.
            ValueError: when its result has the wrong shape.
        """
        result, self._result = self._result, None
        if result is None:
            self._inputs.withdraw()
            raise RuntimeError("the clock gave no result of the call")
        expected = self._inputs.exchanged(self._check.expected)
        try:
            found = self._check.compare(result)
        finally:
            self._inputs.exchanged(expected)
            self._inputs.withdraw()
        refuse_touched(self._inputs.moved())
        return found


def _copy(tensor: Tensor) -> Tensor:
    """Return a copy, or the tensor itself if copying may compute it."""
    return tensor.detach().clone() if type(tensor) is Tensor else tensor
