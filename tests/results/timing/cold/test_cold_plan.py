"""The plan of a CPU's cold calls: rotation where it costs less than flushing, and always as cold."""

from __future__ import annotations

import pytest

from moebench.results.timing.clock import FLUSH_FACTOR, ROTATION_FACTOR, CallBytes
from moebench.results.timing.cold.cold_plan import FRESH_COST, LEAST_TOUCHED, MEMORY_SHARE, ColdPlan, cold_plan
from moebench.results.timing.cold.workspaces import SLACK

MIB = 2**20
CACHES = [size * MIB for size in (1, 32, 480, 2000)]
SMOKE = CallBytes(
    read_bytes=90 * MIB, held_bytes=90 * MIB, workspace_bytes=40 * MIB, available_bytes=16384 * MIB, samples=140
)


def other(**changes: int) -> CallBytes:
    return CallBytes(**{**vars(SMOKE), **changes})


@pytest.mark.parametrize("cache_bytes", CACHES)
@pytest.mark.parametrize("read_bytes", [8 * MIB, 30 * MIB, 90 * MIB, 3000 * MIB])
def test_twice_the_cache_passes_between_two_uses_of_a_set(cache_bytes: int, read_bytes: int) -> None:
    plan = cold_plan(cache_bytes, other(read_bytes=read_bytes, held_bytes=read_bytes))
    passed = (plan.sets - 1) * read_bytes + plan.sets * plan.flush_bytes
    assert passed >= ROTATION_FACTOR * cache_bytes


def test_a_set_is_never_used_twice_in_a_row_without_a_flush() -> None:
    """One set larger than the cache is not enough: caches keep a part of what passes through them in a circle."""
    assert cold_plan(32 * MIB, SMOKE) == ColdPlan(sets=2, flush_bytes=0)


def test_a_large_cache_is_not_read_before_each_sample() -> None:
    plan = cold_plan(480 * MIB, SMOKE)
    assert plan.sets > 2
    assert plan.flush_bytes < 480 * MIB * FLUSH_FACTOR / 50


@pytest.mark.parametrize(
    "footprint",
    [
        other(read_bytes=LEAST_TOUCHED - SMOKE.workspace_bytes - 1),
        other(available_bytes=int(150 * MIB / MEMORY_SHARE)),
        other(samples=1, held_bytes=10 * 480 * MIB // FRESH_COST),
    ],
    ids=["a short call", "little memory", "few samples of large inputs"],
)
def test_a_flush_where_rotation_is_dear_or_not_as_cold(footprint: CallBytes) -> None:
    assert cold_plan(480 * MIB, footprint) == ColdPlan(sets=1, flush_bytes=FLUSH_FACTOR * 480 * MIB)


def test_fewer_sets_where_memory_is_short_and_the_rest_is_flushed() -> None:
    short = other(available_bytes=int((90 + 2 * SLACK * 40) * MIB / MEMORY_SHARE))
    plan = cold_plan(480 * MIB, short)
    assert plan == ColdPlan(sets=2, flush_bytes=(2 * 480 - 90) * MIB // 2)
