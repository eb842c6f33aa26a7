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


@contextmanager
def frozen_heap() -> Iterator[None]:
    """Keep the garbage collector from the objects that are alive now, while it collects what is made afterwards.

    A process that is forked meanwhile does not walk over these objects either, which would copy their memory.
    """
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
