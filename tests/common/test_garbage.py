"""The collector rests where it is asked to, and does afterwards what it did before."""

from __future__ import annotations

import gc

import pytest

from moebench.common.garbage import without_collections


@pytest.mark.parametrize("before", [True, False])
def test_the_collector_is_as_before_also_after_an_error(before: bool) -> None:
    was = gc.isenabled()
    try:
        (gc.enable if before else gc.disable)()
        with pytest.raises(ValueError, match="while it is off"), without_collections():
            raise ValueError(f"on purpose, while it is {'on' if gc.isenabled() else 'off'}")
        assert gc.isenabled() is before
    finally:
        (gc.enable if was else gc.disable)()
