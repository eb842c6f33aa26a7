"""Operators: a look at each that a call starts, and how many they are, and how many make the host wait for a device.

Counted while the call runs on a CPU, or on tensors without memory, where nothing waits: the
operator alone tells whether it would wait on a GPU. On a device `torch.cuda.set_sync_debug_mode`
reports the same waits.
"""

from __future__ import annotations

import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cache, wraps
from typing import Any, Final

import torch
from torch import Tensor
from torch._ops import OpOverload
from torch.utils._python_dispatch import TorchDispatchMode

Operator = OpOverload[..., Any]

Watcher = Callable[[Operator, Sequence[Any], dict[str, Any], Any], object]
"""Receives each operator that was called, its arguments, and its result."""

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

    def count(self, function: Operator, args: Sequence[Any], kwargs: dict[str, Any], _: Any) -> None:
        """Count one operator."""
        starts, name, waits = _kind(function)
        if starts:
            self.names[name] += 1
        if waits is None:
            waits = _waits_as_called(function, args, kwargs)
        self.waits += waits


class _WatchMode(TorchDispatchMode):
    """Shows every operator to all watchers of a thread: a mode for each of them would cost several times as much."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.watchers: list[Watcher] = []

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Return whether torch keeps its compiler away from this mode: it would import it, 800 modules in a second."""
        return False

    def __torch_dispatch__(
        self, function: Operator, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        arguments = kwargs or {}
        result = function(*args, **arguments)
        for watcher in self.watchers:
            watcher(function, args, arguments, result)
        return result


class _WatchModeBesideCompiler(_WatchMode):
    """The same for processes that have imported torch's compiler, which would compile the watchers."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return True

    # Torch keeps its compiler away from what a class defines itself.
    def __torch_dispatch__(
        self, function: Operator, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        return super().__torch_dispatch__(function, types, args, kwargs)


class _Active(threading.local):
    mode: _WatchMode | None = None


_active = _Active()


@contextmanager
def watch_operators(watcher: Watcher) -> Iterator[None]:
    """Show the watcher every operator that the block calls, backwards included. What a watcher calls is not shown."""
    if _active.mode is not None:
        _active.mode.watchers.append(watcher)
        try:
            yield
        finally:
            _active.mode.watchers.pop()
        return
    with _WatchModeBesideCompiler() if "torch._dynamo" in sys.modules else _WatchMode() as mode:
        _active.mode = mode
        mode.watchers.append(watcher)
        try:
            yield
        finally:
            _active.mode = None


def allocates(function: Operator) -> bool:
    """Return whether an operator may return memory that none of its arguments has."""
    return _returns(function)[0]


def tensors(tree: Any) -> Iterator[Tensor]:
    """Yield the tensors among the arguments or the results of an operator, in lists too."""
    if isinstance(tree, Tensor):
        yield tree
    elif isinstance(tree, (list, tuple)):
        for part in tree:
            yield from tensors(part)
    elif isinstance(tree, dict):
        yield from tensors(tuple(tree.values()))


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
        stack.enter_context(watch_operators(counted.count))
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


@cache
def _returns(function: Operator) -> tuple[bool, bool]:
    """Return whether any result of an operator has memory of its own, and whether any is a view."""
    results = [result.alias_info for result in function._schema.returns]  # noqa: SLF001  # torch has no other access
    own = not results or any(alias is None for alias in results)
    return own, any(alias is not None and not alias.is_write for alias in results)


@cache
def _kind(function: Operator) -> tuple[bool, str, bool | None]:
    """Return whether an operator computes or copies, its name, and whether it waits; None if that depends."""
    packet = function.overloadpacket
    starts = not _returns(function)[1] and packet not in FREE
    if packet in INDEXING or packet is aten.repeat_interleave:
        return starts, str(packet), None
    tags = function.tags
    waits = torch.Tag.data_dependent_output in tags or torch.Tag.dynamic_output_shape in tags
    return starts, str(packet), waits


def _waits_as_called(function: Operator, args: Sequence[Any], kwargs: dict[str, Any]) -> bool:
    if function.overloadpacket in INDEXING:
        return any(index.dtype is torch.bool for index in tensors(args[1]))
    if kwargs.get("output_size") is not None:
        return False
    return torch.Tag.data_dependent_output in function.tags or torch.Tag.dynamic_output_shape in function.tags
