"""The protocol on competitors whose samples are known beforehand."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterable, Iterator

import pytest

from moebench.results.stats import spread
from moebench.results.timing.clock import Sample
from moebench.results.timing.disturbance import Disturbance
from moebench.results.timing.measure import Samples, Stop, measure
from moebench.results.timing.stopping_rule import (
    DISTURBED_ROUNDS,
    MAX_DISTURBED,
    MAX_THROTTLED,
    MIN_SAMPLES,
    PLATEAU_SAMPLES,
    QUIET_PAUSES_S,
    SETTLED_SPREAD,
)

LONG_S = 1e6


def sampler(ns: Iterable[float]) -> Callable[[], Sample]:
    """Give valid samples, one after the other."""
    turns = iter(ns)
    return lambda: Sample(ns=next(turns), throttled=False)


def alone(ns: Iterable[float], time_limit_s: float = LONG_S) -> Samples:
    return measure({"it": sampler(ns)}, time_limit_s=time_limit_s)["it"]


def noisy() -> Iterator[float]:
    """Ten per cent to and fro, for ever."""
    return itertools.cycle([100.0, 110.0])


def ever_noisier() -> Iterator[float]:
    """Neither settles nor reaches a plateau."""
    return (2.0**i for i in itertools.count())


def test_a_quiet_call_is_settled_with_the_fewest_samples() -> None:
    samples = alone(itertools.repeat(5.0))
    assert (samples.stopped, samples.ns, samples.median_ns) == ("settled", [5.0] * MIN_SAMPLES, 5.0)
    assert samples.enough


def test_it_is_settled_as_soon_as_the_spread_is_small_enough() -> None:
    """Eight noisy samples and then quiet ones: not before the spread of all is under the bound."""
    samples = alone(itertools.chain([90.0, 110.0] * 4, itertools.repeat(100.0)))
    assert samples.stopped == "settled"
    assert spread(samples.ns) < SETTLED_SPREAD <= spread(samples.ns[:-1])


def test_a_noise_that_stays_is_a_plateau() -> None:
    samples = alone(noisy())
    assert (samples.stopped, len(samples.ns)) == ("plateau", 2 * PLATEAU_SAMPLES)
    assert samples.enough


def test_a_noise_that_still_falls_is_no_plateau() -> None:
    """Fifty per cent to and fro at first, one per cent later: it goes on until the later noise is what is seen."""
    samples = alone(itertools.chain([50.0, 150.0] * (PLATEAU_SAMPLES // 2), itertools.cycle([99.0, 101.0])))
    assert samples.stopped == "plateau"
    assert spread(samples.ns) == pytest.approx(0.01)


def test_a_noise_that_grows_is_no_plateau_and_ends_at_the_time_limit() -> None:
    """The first sample after which the samples sum to more than the limit, 2^0 + … + 2^(n - 1) > 1e12 ns."""
    samples = alone(ever_noisier(), time_limit_s=1e3)
    assert (samples.stopped, len(samples.ns)) == ("time_limit", 40)


def test_the_limit_counts_every_call_of_a_sample() -> None:
    """Eight calls to a sample reach it three samples earlier: 8 (2^0 + … + 2^(n - 1)) > 1e12 ns."""
    turns = ever_noisier()
    samples = measure({"it": lambda: Sample(ns=next(turns), throttled=False, calls=8)}, time_limit_s=1e3)["it"]
    assert (samples.stopped, len(samples.ns)) == ("time_limit", 37)


def test_however_short_the_limit_there_are_enough_samples_to_quote() -> None:
    samples = alone(ever_noisier(), time_limit_s=0.0)
    assert (samples.stopped, len(samples.ns)) == ("time_limit", MIN_SAMPLES)
    assert samples.enough


def test_the_limit_counts_the_samples_and_not_the_wall() -> None:
    """Taking them takes a hundred times the limit; their sum never reaches it."""
    started = time.perf_counter()
    turns = noisy()

    def slow() -> Sample:
        time.sleep(0.001)
        return Sample(ns=next(turns), throttled=False)

    samples = measure({"it": slow}, time_limit_s=1e-5)["it"]
    assert time.perf_counter() - started > 1e-5 > sum(samples.ns) / 1e9
    assert samples.stopped == "plateau"


def test_throttled_samples_are_dropped_and_counted() -> None:
    turns = itertools.cycle([Sample(ns=5.0, throttled=False), Sample(ns=900.0, throttled=True)])
    samples = measure({"it": lambda: next(turns)}, time_limit_s=LONG_S)["it"]
    assert (samples.stopped, samples.ns, samples.throttled) == ("settled", [5.0] * MIN_SAMPLES, MIN_SAMPLES - 1)


def test_a_device_that_stays_throttled_is_given_up() -> None:
    valid = MIN_SAMPLES - 1
    turns = itertools.chain([Sample(ns=5.0, throttled=False)] * valid, itertools.repeat(Sample(ns=9.0, throttled=True)))
    samples = measure({"it": lambda: next(turns)}, time_limit_s=LONG_S)["it"]
    assert (len(samples.ns), samples.throttled) == (valid, MAX_THROTTLED)
    assert samples.stopped is not None
    assert not samples.enough


def quiet(ns: float = 5.0) -> Sample:
    return Sample(ns=ns, throttled=False, disturbed=Disturbance.none)


def disturbed(by: Disturbance = Disturbance.others) -> Sample:
    return Sample(ns=900.0, throttled=False, disturbed=by)


def test_disturbed_samples_are_dropped_and_counted() -> None:
    """Every third one: nobody waits for quiet."""
    pauses: list[float] = []
    turns = itertools.cycle([quiet(), quiet(), disturbed()])
    samples = measure({"it": lambda: next(turns)}, time_limit_s=LONG_S, pause=pauses.append)["it"]
    assert (samples.stopped, samples.ns, samples.disturbed) == ("settled", [5.0] * MIN_SAMPLES, MIN_SAMPLES // 2 - 1)
    assert (samples.enough, samples.quiet, samples.watched, pauses) == (True, True, True, [])


def test_a_busy_machine_is_waited_for() -> None:
    """Quiet comes after the second pause: the numbers are those of a quiet machine."""
    pauses: list[float] = []

    def take() -> Sample:
        return disturbed() if len(pauses) < 2 else quiet()

    results = measure({"a": take, "b": take}, time_limit_s=LONG_S, pause=pauses.append)
    assert pauses == list(QUIET_PAUSES_S[:2])
    for samples in results.values():
        assert (samples.ns, samples.disturbed) == ([5.0] * MIN_SAMPLES, 2 * DISTURBED_ROUNDS)
        assert samples.quiet


def test_a_machine_that_stays_busy_is_given_up_after_a_bounded_wait() -> None:
    """Each competitor says what it was that disturbed most of its samples."""
    pauses: list[float] = []
    turns = itertools.cycle([disturbed(), disturbed(Disturbance.hypervisor), disturbed()])
    results = measure({"a": lambda: next(turns), "b": disturbed}, time_limit_s=LONG_S, pause=pauses.append)
    assert pauses == list(QUIET_PAUSES_S)
    for samples in results.values():
        assert (samples.ns, samples.stopped) == ([], "time_limit")
        assert samples.disturbed == DISTURBED_ROUNDS * (len(QUIET_PAUSES_S) + 1)
        assert not samples.quiet
        assert samples.disturbances.most_common(1)[0][0] is Disturbance.others


def test_one_competitor_that_is_disturbed_by_itself_does_not_hold_up_the_others() -> None:
    """Less than half of each round is disturbed: it ends by its own count."""
    pauses: list[float] = []
    noisy_turns = {name: noisy() for name in "abc"}
    samplers = {name: (lambda turns=turns: quiet(next(turns))) for name, turns in noisy_turns.items()}
    results = measure({**samplers, "hit": disturbed}, time_limit_s=LONG_S, pause=pauses.append)
    assert [results[name].stopped for name in "abc"] == ["plateau"] * 3
    assert results["hit"].disturbed <= MAX_DISTURBED
    assert not results["hit"].quiet


def test_competitors_are_sampled_in_rounds() -> None:
    """Everyone once in each round, in an order that changes, so that nobody is always first."""
    log: list[str] = []

    def logged(name: str) -> Callable[[], Sample]:
        turns = noisy()

        def take() -> Sample:
            log.append(name)
            return Sample(ns=next(turns), throttled=False)

        return take

    measure({name: logged(name) for name in "abc"}, time_limit_s=LONG_S)
    rounds = list(zip(*[iter(log)] * 3, strict=True))
    assert len(rounds) == 2 * PLATEAU_SAMPLES
    assert all(sorted(one) == ["a", "b", "c"] for one in rounds)
    assert {one[0] for one in rounds} == {"a", "b", "c"}


def test_who_is_done_leaves_and_the_others_go_on() -> None:
    results = measure(
        {"quiet": sampler(itertools.repeat(1.0)), "noisy": sampler(noisy()), "growing": sampler(ever_noisier())},
        time_limit_s=1e3,
    )
    stops: dict[str, Stop | None] = {name: samples.stopped for name, samples in results.items()}
    assert stops == {"quiet": "settled", "noisy": "plateau", "growing": "time_limit"}
    counts = {name: len(samples.ns) for name, samples in results.items()}
    assert counts == {"quiet": MIN_SAMPLES, "noisy": 2 * PLATEAU_SAMPLES, "growing": 40}


def test_nobody_to_measure() -> None:
    assert measure({}, time_limit_s=1.0) == {}


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_an_error_of_a_competitor_is_not_swallowed(error: type[BaseException]) -> None:
    def fail() -> Sample:
        raise error

    with pytest.raises(error):
        measure({"it": fail}, time_limit_s=1.0)
