"""An unknown name is answered with the nearest valid ones, and is an error that the user can mend."""

from __future__ import annotations

from moebench.common.errors import UserError
from moebench.common.names import unknown


def test_the_nearest_names_are_suggested_whatever_their_case() -> None:
    assert str(unknown("kernel", "SCATER", ["scatter", "loop"])) == "no kernel is named 'SCATER': did you mean scatter?"


def test_without_a_near_one_all_are_listed() -> None:
    assert str(unknown("kernel", "x", ["scatter", "loop"])) == "no kernel is named 'x': there are scatter, loop"


def test_it_is_an_error_of_the_user() -> None:
    assert isinstance(unknown("kernel", "x", ["loop"]), UserError)
