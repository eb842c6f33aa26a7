"""The collector rests where it is asked to, and does afterwards what it did before."""

from __future__ import annotations

import gc
import weakref

import pytest

from moebench.common.garbage import frozen_heap, without_collections


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


class _Cycle:
    def __init__(self) -> None:
        self.itself = self


def test_a_frozen_heap_is_left_alone_and_what_is_made_later_is_collected() -> None:
    before = gc.get_freeze_count()
    old = _Cycle()
    seen = weakref.ref(old)
    with frozen_heap():
        assert gc.get_freeze_count() > before
        del old
        new = weakref.ref(_Cycle())
        gc.collect()
        assert seen() is not None
        assert new() is None
    assert gc.get_freeze_count() == 0
    gc.collect()
    assert seen() is None


def test_a_heap_is_thawed_after_an_error() -> None:
    with pytest.raises(ValueError, match="inside"), frozen_heap():
        raise ValueError("inside")
    assert gc.get_freeze_count() == 0
