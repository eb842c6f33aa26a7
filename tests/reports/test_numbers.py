"""Numbers are written one way, and text of records becomes one printable line."""

from __future__ import annotations

import pytest

from moebench.reports.numbers import GROUP, counted, exact, number, plain, span


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (1, "1.00"),
        (0.0312345, "0.0312"),
        (9.996, "10.0"),
        (99.96, "100"),
        (123.4, "123"),
        (1234567, f"1{GROUP}230{GROUP}000"),
        (999.6, f"1{GROUP}000"),
        (0.00000012345, "1.23e-07"),
        (-2.5, "-2.50"),
        (float("inf"), "inf"),
    ],
)
def test_a_number_has_three_significant_digits_and_thin_groups(value: float, text: str) -> None:
    assert number(value) == text


@pytest.mark.parametrize(
    ("x", "text"), [(16384.0, f"16{GROUP}384"), (1.25, "1.25"), (1.0, "1"), ("dropless", "dropless")]
)
def test_a_place_on_an_axis_is_never_rounded(x: float | str, text: str) -> None:
    assert exact(x) == text


def test_a_span_of_equal_numbers_is_one_number() -> None:
    assert span([1.001, 1.002], "×") == "1.00×"
    assert span([2.0, 1.0], "×") == "1.00× to 2.00×"


def test_counts_agree_with_their_noun() -> None:
    assert counted(1, "trial") == "1 trial"
    assert counted(1500, "trial") == f"1{GROUP}500 trials"


def test_control_characters_become_spaces() -> None:
    assert plain("a\x1b[31mb\r\nc\u202ed\x00") == "a [31mb c d"


def test_long_text_is_cut_with_an_ellipsis() -> None:
    assert plain("x" * 50, 10) == "x" * 9 + "…"
    assert plain("x" * 10, 10) == "x" * 10
