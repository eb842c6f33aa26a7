"""The noise of the gate study: of the shapes in its names, or as it was recorded."""

from __future__ import annotations

import numpy as np
import pytest
from noise import SAMPLES, SHAPES, TooFew, recorded, spreads
from records import TIMING, record

from moebench.results.record import Record

TURNS = range(16, 4016)


def processes(medians: list[float], x: float = 1.0) -> list[Record]:
    """Return one record for each process, whose samples all equal its median."""
    return [
        record(x, timing=TIMING.model_copy(update={"samples_ns": [ns] * 20}), time=f"2026-03-01T{at:03}")
        for at, ns in enumerate(medians)
    ]


@pytest.mark.parametrize(("name", "share"), [("0.5 %", 0.005), ("2 %", 0.02), ("5 %", 0.05)])
def test_processes_differ_by_what_the_noise_is_called(name: str, share: float) -> None:
    logs = SHAPES[name](np.random.default_rng(0), 3, TURNS)
    assert logs.shape == (3, len(TURNS), SAMPLES)
    assert logs.mean(axis=2).std() == pytest.approx(share, rel=0.15)


def test_drift_goes_on_where_it_was() -> None:
    noise = SHAPES["1 %, and a drift of 0.4 % a pair"]
    first, later = (noise(np.random.default_rng(0), 2, turns).mean() for turns in (range(100), range(100, 200)))
    assert later - first == pytest.approx(0.2)


def test_one_process_in_twenty_is_an_outlier() -> None:
    logs = SHAPES["1 %, and one process in 20 slower by 30 %"](np.random.default_rng(0), 3, TURNS)
    assert (logs.mean(axis=2) > 0.2).mean() == pytest.approx(1 / 20, abs=0.01)


def test_recorded_noise_comes_in_stretches_of_four_pairs() -> None:
    """In the recording every process takes a hundredth longer than the one before."""
    noise = recorded(processes([1000 * 1.01**at for at in range(30)]))
    logs = noise(np.random.default_rng(0), 20, range(16))
    assert logs.shape == (20, 16, SAMPLES)
    steps = np.diff(np.median(logs, axis=2).reshape(20, 2, 8), axis=2)
    assert steps == pytest.approx(np.log(1.01))
    assert len({float(stretch) for stretch in logs[:, ::8, 0].flat}) > 10


def test_recorded_points_are_as_they_were_around_their_median() -> None:
    noise = recorded([*processes([100.0] * 8), *processes([5000.0] * 8, x=2.0)])
    assert noise(np.random.default_rng(0), 20, range(8)) == pytest.approx(0.0)


def test_a_recording_shorter_than_a_stretch_is_refused() -> None:
    with pytest.raises(TooFew, match="7 processes of a point are recorded, 8 are needed"):
        recorded(processes([1.0] * 7))


def test_spreads_are_those_of_medians_of_processes_and_of_ratios_of_pairs() -> None:
    """The two processes of each pair are equal, while the machine drifts from pair to pair."""
    of_processes, of_pairs = spreads(processes([98.0, 98.0, 100.0, 100.0, 102.0, 102.0]))
    assert of_processes == [pytest.approx(0.015)]
    assert of_pairs == [0.0]
