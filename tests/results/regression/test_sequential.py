"""Measuring until it is clear, and twice before an alarm."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import pytest

from moebench.results.record.identity import Identity
from moebench.results.regression.sequential import LOOKS, Look, judge
from moebench.results.regression.verdicts import Outcome, Verdict

KEYS = {name: Identity(suite="s", kernel=name) for name in "abc"}
S, U, L = Outcome.same, Outcome.unclear, Outcome.slower


class Script:
    """Fake measurement with a given verdict for each point at each look; ``asked`` is what was asked for."""

    def __init__(self, *measurements: Mapping[str, Sequence[Outcome]]) -> None:
        self._measurements = iter(measurements)
        self.asked: list[tuple[int, str]] = []

    def begin(self, keys: Collection[Identity] | None) -> Look:
        written = next(self._measurements)
        assert keys is None or {key.kernel for key in keys} == set(written)
        looks = iter(range(len(LOOKS)))

        def look(processes: int, unclear: Collection[Identity] | None) -> list[Verdict]:
            self.asked.append((processes, "".join(key.kernel for key in unclear) if unclear is not None else "all"))
            at = next(looks)
            return [Verdict(key=KEYS[name], status=said[min(at, len(said) - 1)]) for name, said in written.items()]

        return look

    def judged(self, looks: Sequence[int] = LOOKS) -> dict[str, Outcome]:
        return {verdict.key.kernel: verdict.status for verdict in judge(self.begin, looks)}


def test_what_is_clear_at_once_is_measured_once() -> None:
    script = Script({"a": [S], "b": [S]})
    assert script.judged() == {"a": S, "b": S}
    assert script.asked == [(LOOKS[0], "all")]


def test_what_is_unclear_gets_more_processes_until_it_is_clear() -> None:
    script = Script({"a": [U, U, S], "b": [S]})
    assert script.judged() == {"a": S, "b": S}
    assert script.asked == [(LOOKS[0], "all"), (LOOKS[1], "a"), (LOOKS[2], "a")]


def test_what_stays_unclear_is_unclear() -> None:
    script = Script({"a": [U]})
    assert script.judged() == {"a": U}
    assert [processes for processes, _ in script.asked] == [*LOOKS]


def test_what_is_decided_stays_decided() -> None:
    """Later looks see more of it, and get no second chance to raise an alarm."""
    assert Script({"a": [S, L], "b": [U, S]}).judged() == {"a": S, "b": S}


@pytest.mark.parametrize("again", [S, U, L])
def test_what_seems_slower_gets_the_verdict_of_its_second_measurement(again: Outcome) -> None:
    script = Script({"a": [S], "b": [L], "c": [U, L]}, {"b": [again], "c": [S]})
    assert script.judged(LOOKS[:2]) == {"a": S, "b": again, "c": S}
    assert script.asked[:3] == [(LOOKS[0], "all"), (LOOKS[1], "c"), (LOOKS[0], "all")]


def test_eight_processes_a_side_are_the_least() -> None:
    assert LOOKS[0] == 8
    assert list(LOOKS) == sorted(set(LOOKS))
