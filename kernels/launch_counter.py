"""How often each kernel of ours was started, counted while somebody wants to know."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

_counting: list[Counter[str]] = []  # of the process: a backward on a GPU starts kernels from a thread of its own


@contextmanager
def count_launches() -> Iterator[Counter[str]]:
    """Count the launches inside the block by the kernel's name, those of backwards and of other threads included."""
    counter: Counter[str] = Counter()
    _counting.append(counter)
    try:
        yield counter
    finally:
        _counting.remove(counter)


def launched(name: str) -> None:
    """Say that a kernel was started."""
    for counter in _counting:
        counter[name] += 1
