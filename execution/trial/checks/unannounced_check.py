"""The check of two timed calls of a competitor, which nothing tells from the others: one at random, and the last."""

from __future__ import annotations

import secrets
from collections.abc import Callable

from torch import Tensor

from ....kernels.oracle import OF_TOKENS, Result
from ....kernels.problem.tensors import Inputs
from ....results.record import Error
from ..across_ranks import gather
from ..reference_check import ReferenceCheck, refuse_touched
from .poison import forget, forget_tensor
from .timed_inputs import TimedInputs


class UnannouncedCheck:
    """Grades the results of timed calls: of one that is drawn, the same on all ranks, of the first ``within``.

    Its inputs are those of ``check``. The last call is graded too, on inputs that no call has seen before.
    ``next_set`` says which set the next call is on, None if it may be any.
    """

    def __init__(
        self, check: ReferenceCheck, inputs: TimedInputs, *, next_set: Callable[[], int | None], within: int
    ) -> None:
        self._check = check
        self._inputs = inputs
        self._next_set = next_set
        self._calls_before = gather(secrets.randbelow(within))[0]
        self._result: Result | None = None
        self.due = False

    def begin(self) -> None:
        """Prepare the next call, which is graded if it is its turn."""
        self.due = self._calls_before == 0
        self._calls_before -= 1
        if self.due:
            self._inputs.pose(self._check.inputs, only=self._next_set())

    def begin_last(self, check: ReferenceCheck) -> None:
        """Prepare the last call, which is graded on the inputs of ``check``."""
        self._check = check
        self.due = True
        self._inputs.pose(check.inputs, only=self._next_set())

    def keep(self, result: object) -> None:
        """Keep the result of the call as it is when the clock stops: what is computed later comes too late.

        On a GPU the copies are queued behind the call, and do not wait for what it started on other streams.
        """
        if self.due and isinstance(result, Result):
            gradients = {name: _taken(of) if name in OF_TOKENS else of for name, of in result.gradients.items()}
            self._result = Result(y_TD=_taken(result.y_TD), gradients=gradients)

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
        self.due = True
        self._inputs.pose(self._check.inputs, only=self._inputs.used)
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
            forget(result, self._check.inputs)
            self._inputs.exchanged(expected)
            self._inputs.withdraw()
        refuse_touched(self._inputs.moved())
        return found


def _taken(tensor: Tensor) -> Tensor:
    """Return a copy of a result, which is forgotten; or the tensor itself if copying may compute it."""
    if type(tensor) is not Tensor:
        return tensor
    kept = tensor.detach().clone()
    forget_tensor(tensor)
    return kept
