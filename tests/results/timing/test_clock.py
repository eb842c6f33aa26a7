"""Parts that clocks share: the garbage collector is off during a sample and left as it was."""

from __future__ import annotations

import gc

import pytest

from moebench.results.timing.clock import no_garbage_collection


def test_garbage_collection_is_left_as_it_was() -> None:
    """On again after an error; off still where it was off."""
    with pytest.raises(ZeroDivisionError), no_garbage_collection():
        _ = 1 / 0
    assert gc.isenabled()
    gc.disable()
    try:
        with no_garbage_collection():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()
