"""The study of calls times every competitor in every turn, and compares within turns."""

from __future__ import annotations

import numpy as np
import torch
from call_overhead import by_turns, competitors, lines


def test_all_that_are_compared_compute_the_same() -> None:
    with torch.no_grad():
        results = [call() for call in competitors().values()]
    for one in results[1:]:
        torch.testing.assert_close(one, results[0])


def test_a_turn_has_a_time_of_each() -> None:
    took = by_turns({"kernel": lambda: None, "layer": lambda: sum(range(20_000))}, 5)
    assert {name: len(times) for name, times in took.items()} == {"kernel": 5, "layer": 5}
    assert (took["layer"] > took["kernel"]).all()


def test_differences_are_those_within_turns() -> None:
    took = {"kernel": np.array([1.0, 50.0, 2.0]), "layer": np.array([11.0, 60.0, 12.0])}
    assert lines(took) == ["kernel            2.0 µs", "layer            12.0 µs, 10.0 more (10.0 to 10.0)"]
