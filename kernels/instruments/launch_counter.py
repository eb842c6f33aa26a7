"""Counter of the launches of this package's own kernels, active inside `count_launches`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

_counting: list[Counter[str]] = []  # global: a backward on a GPU starts kernels from another thread


@contextmanager
def count_launches() -> Iterator[Counter[str]]:
    """Count the launches inside the block by kernel name, including those of backwards and of other threads."""
    counter: Counter[str] = Counter()
    _counting.append(counter)
    try:
        yield counter
    finally:
        _counting.remove(counter)


def launched(name: str) -> None:
    """Count one launch of a kernel."""
    for counter in _counting:
        counter[name] += 1
