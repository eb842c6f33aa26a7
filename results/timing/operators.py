"""Operators: how many a call starts, and how many of them make the host wait for a device.

Counted while the call runs on a CPU, or on tensors without memory, where nothing waits: the
operator alone tells whether it would wait on a GPU. On a device `torch.cuda.set_sync_debug_mode`
reports the same waits.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import wraps
from typing import Any, Final

import torch
from torch import Tensor
from torch._ops import OpOverload
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

aten = torch.ops.aten

# These start no kernel.
FREE: Final = {
    aten._unsafe_view,  # noqa: SLF001  # the name of an operator
    aten.empty,
    aten.empty_like,
    aten.empty_strided,
    aten.new_empty,
    aten.new_empty_strided,
}
# With a mask as index they first search for the selected elements.
INDEXING: Final = {aten.index, aten.index_put, aten.index_put_}
# Between host and device they copy, and wait for the copy; from CPU to CPU they call no operator.
COPIES: Final = (
    (Tensor, "cpu"),
    (Tensor, "new_tensor"),
    (Tensor, "numpy"),
    (Tensor, "tolist"),
    (torch, "as_tensor"),
    (torch, "tensor"),
)


@dataclass
class Operators:
    """Counts of operators: ``names`` by name, of those that compute or copy (on a GPU at least one kernel each).

    ``waits`` counts those for which the host waits until the device is done.
    """

    names: Counter[str] = field(default_factory=Counter)
    waits: int = 0

    @property
    def started(self) -> int:
        """Return the number of operators that compute or copy."""
        return self.names.total()


@contextmanager
def count_operators() -> Iterator[Operators]:
    """Count the operators that the block calls, backwards included.

    Waits are operators whose output's shape or value the host has to know (torch tags them), indexing by a mask, and
    copies between host and device: a tensor read with ``tolist``, ``numpy`` or ``cpu``, or made with ``tensor``. Copies
    with ``to`` are not seen: from CPU to CPU there is none. An operator may wait more than once; it counts once. One
    that is made of others is seen as it is on a CPU: there `one_hot` looks twice whether its classes are in range.
    """
    counted = Operators()
    with ExitStack() as stack:
        for owner, name in COPIES:
            stack.enter_context(_watched(owner, name, counted))
        stack.enter_context(_Dispatched(counted))
        yield counted


@contextmanager
def _watched(owner: Any, name: str, counted: Operators) -> Iterator[None]:
    """Replace a function by one that counts its calls; torch's own modes for that are off in backwards."""
    function = getattr(owner, name)

    @wraps(function)
    def counting(*args: Any, **kwargs: Any) -> Any:
        counted.waits += 1
        return function(*args, **kwargs)

    setattr(owner, name, counting)
    try:
        yield
    finally:
        setattr(owner, name, function)


class _Dispatched(TorchDispatchMode):
    def __init__(self, counted: Operators) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._counted = counted

    def __torch_dispatch__(
        self,
        function: OpOverload[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        arguments = kwargs or {}
        if _starts(function):
            self._counted.names[str(function.overloadpacket)] += 1
        self._counted.waits += _waits(function, args, arguments)
        return function(*args, **arguments)


def _starts(function: OpOverload[..., Any]) -> bool:
    results = [result.alias_info for result in function._schema.returns]  # noqa: SLF001  # torch has no other access
    views = any(alias is not None and not alias.is_write for alias in results)
    return not views and function.overloadpacket not in FREE


def _waits(function: OpOverload[..., Any], args: Sequence[Any], kwargs: dict[str, Any]) -> bool:
    if function.overloadpacket in INDEXING:
        return any(leaf.dtype is torch.bool for leaf in tree_leaves(args[1]) if isinstance(leaf, Tensor))
    if function.overloadpacket is aten.repeat_interleave and kwargs.get("output_size") is not None:
        return False
    return torch.Tag.data_dependent_output in function.tags or torch.Tag.dynamic_output_shape in function.tags
