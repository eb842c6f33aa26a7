"""A winner beats the default by more than the noise, and chance alone makes none."""

from __future__ import annotations

import numpy as np
import pytest

from moebench.autotune.search.selection import LEAST, decide
from moebench.results.stats import Interval


def drawn(generator: np.random.Generator, median: float, spread: float = 0.02, samples: int = 20) -> list[float]:
    return (median * generator.lognormal(sigma=spread, size=samples)).tolist()  # type: ignore[no-any-return]


def test_a_candidate_that_is_surely_faster_wins() -> None:
    generator = np.random.default_rng(0)
    candidates = [drawn(generator, median) for median in (95.0, 80.0, 90.0)]
    verdict = decide(drawn(generator, 100.0), drawn(generator, 100.0), candidates)
    assert verdict.winner == 1
    assert verdict.speedup.low < 1.25 < verdict.speedup.high
    assert verdict.noise < 0.02


def test_chance_makes_no_winner() -> None:
    """Hardly any of 200 decisions between the default and eight equal candidates has a winner."""
    generator = np.random.default_rng(1)
    wins = 0
    for _ in range(200):
        default, again, *candidates = (drawn(generator, 100.0, 0.05) for _ in range(10))
        wins += decide(default, again, candidates).winner is not None
    assert wins <= 10


@pytest.mark.parametrize(("again", "winner"), [(100.0, 0), (104.0, 0), (88.0, None), (114.0, None)])
def test_a_winner_must_beat_what_the_default_differs_from_itself_by(again: float, winner: int | None) -> None:
    """A gain of 11 % wins where two equal defaults differ by 4 %, and not where they differ by 12 %."""
    generator = np.random.default_rng(2)
    default, candidate = drawn(generator, 100.0, 0.002), drawn(generator, 100.0 / 1.11, 0.002)
    verdict = decide(default, [again / 100 * sample for sample in default], [candidate])
    assert verdict.noise == pytest.approx(max(LEAST, abs(100 / again - 1)))
    assert verdict.winner == winner


def test_less_than_a_percent_is_a_tie_however_sure() -> None:
    assert decide([100.0] * 20, [100.0] * 20, [[99.1] * 20]).winner is None
    assert decide([100.0] * 20, [100.0] * 20, [[98.9] * 20]).winner == 0


def test_a_tie_says_what_was_not_enough() -> None:
    verdict = decide([100.0] * 20, [100.0] * 20, [[101.0], [99.5] * 20])
    assert verdict.winner is None
    assert verdict.speedup.value == pytest.approx(100 / 99.5)


def test_without_candidates_the_default_is_kept() -> None:
    assert decide([1.0], [1.0], []).winner is None
    assert decide([1.0], [1.0], []).speedup == Interval(1.0, 1.0, 1.0)
