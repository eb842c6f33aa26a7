"""Functions of torch that tell the time of a GPU, as they were when this module was imported.

That is before any implementation is: one that replaces them does not change a number, and `replaced` finds it out.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import torch

_OWN: Final[dict[str, tuple[Any, Callable[..., Any]]]] = {
    f"{label}.{name}": (owner, getattr(owner, name))
    for label, owner, names in (
        ("torch.cuda", torch.cuda, ("synchronize", "Event")),
        ("torch.cuda.Event", torch.cuda.Event, ("record", "query", "elapsed_time")),
        ("torch._C", torch._C, ("_cuda_synchronize",)),  # noqa: SLF001  # what `synchronize` calls
    )
    for name in names
    if hasattr(owner, name)
}

synchronize: Final = torch.cuda.synchronize  # the callers' own name for it
_event: Final[Callable[..., Any]] = torch.cuda.Event
_current_stream: Final = torch.cuda.current_stream
_record: Final[Callable[..., Any]] = torch.cuda.Event.record
_query: Final[Callable[..., Any]] = torch.cuda.Event.query
_elapsed_time: Final[Callable[..., Any]] = torch.cuda.Event.elapsed_time


class DeviceEvent:
    """A timed event of the current device and stream."""

    def __init__(self) -> None:
        self._event = _event(enable_timing=True)

    def record(self) -> None:
        """Put the event at the end of the queue."""
        _record(self._event, _current_stream())

    def query(self) -> bool:
        """Return whether the device has passed the event."""
        return bool(_query(self._event))

    def elapsed_time(self, end: DeviceEvent, /) -> float:
        """Return the milliseconds from this event to ``end``; torch raises where the device has not passed both."""
        return float(_elapsed_time(self._event, end._event))


def replaced() -> str | None:
    """Return which of the functions is no longer torch's own, in words, or None."""
    for name, (owner, own) in _OWN.items():
        if (now := getattr(owner, name.rpartition(".")[2], None)) is not own:
            return f"{name} was replaced by {getattr(now, '__module__', '?')}.{getattr(now, '__qualname__', now)}"
    return None


def restore() -> None:
    """Give torch its own functions back."""
    for name, (owner, own) in _OWN.items():
        if getattr(owner, (attribute := name.rpartition(".")[2]), None) is not own:
            setattr(owner, attribute, own)
