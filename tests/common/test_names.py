"""An unknown name is answered with the nearest valid ones, and is an error that the user can mend."""

from __future__ import annotations

from moebench.common.errors import UserError
from moebench.common.names import unknown


def test_the_nearest_names_are_suggested_whatever_their_case() -> None:
    assert str(unknown("kernel", "SCATER", ["scatter", "loop"])) == "no kernel is named 'SCATER': did you mean scatter?"


def test_without_a_near_one_all_are_listed() -> None:
    assert str(unknown("kernel", "x", ["scatter", "loop"])) == "no kernel is named 'x': there are scatter, loop"


def test_nearest_names_come_first_and_keep_their_case() -> None:
    message = str(unknown("model", "mixtral-8x7", ["DBRX", "Mixtral-8x22B", "Mixtral-8x7B"]))
    assert message == "no model is named 'mixtral-8x7': did you mean Mixtral-8x7B or Mixtral-8x22B?"


def test_it_is_an_error_of_the_user() -> None:
    assert isinstance(unknown("kernel", "x", ["loop"]), UserError)
