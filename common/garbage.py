"""Garbage: work that makes many objects without the collector walking over all of them again and again."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def without_collections() -> Iterator[None]:
    """Keep the garbage collector from running, and let it run as before afterwards.

    It walks over every object that is alive, so beside the records of a large report it takes most of the time of what
    makes objects. What is in cycles stays in memory until then.
    """
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()
