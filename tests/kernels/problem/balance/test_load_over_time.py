"""Load over time is counted as a loop over tokens counts it."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from moebench.kernels.problem.balance.load_over_time import load_over_time
from moebench.kernels.problem.traces.trace_format import LayerDescription, LayerRoutes


@given(
    T=st.integers(1, 40), K=st.integers(1, 3), E=st.integers(3, 9), parts=st.integers(1, 50), seed=st.integers(0, 99)
)
def test_parts_are_counted_as_a_loop_does(T: int, K: int, E: int, parts: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    ids = np.stack([rng.choice(E, K, replace=False) for _ in range(T)]).astype(np.int32)
    ids[rng.random((T, K)) < 0.3] = -1
    layer = LayerDescription(name="a", experts=E, steps=(T,))
    load = load_over_time(LayerRoutes(layer=layer, ids_TK=ids), parts)
    parts = min(parts, T)
    expected = np.zeros((parts, E), int)
    for token in range(T):
        for expert in ids[token]:
            if expert >= 0:
                expected[token * parts // T, expert] += 1
    np.testing.assert_array_equal(load.counts_PE, expected)
    assert (load.tokens, load.chosen, load.absent) == (T, K, int((ids < 0).sum()))
    assert load.dead == sum(not (ids == expert).any() for expert in range(E))
    relative = load.relative_PE()
    np.testing.assert_allclose(relative.sum(1), np.where(expected.sum(1) > 0, E, 0))


def test_experts_that_nobody_said_are_those_up_to_the_highest_id() -> None:
    layer = LayerDescription(name="", experts=None, steps=(2,))
    for ids, experts in (([[3], [0]], 4), ([[-1], [-1]], 1)):
        load = load_over_time(LayerRoutes(layer=layer, ids_TK=np.array(ids, np.int32)), 2)
        assert load.counts_PE.shape == (2, experts)
