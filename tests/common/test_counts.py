"""Numbers that a user writes down: positive ones of any length that there can be."""

from __future__ import annotations

import pytest

from moebench.common.counts import DIGITS, count


@pytest.mark.parametrize(
    ("word", "number"),
    [
        ("12", 12),
        (" 7 ", 7),
        ("007", 7),
        ("9" * DIGITS, 10**DIGITS - 1),
        *(
            (word, None)
            for word in ("", "0", "-1", "1.5", "1e3", "²", "inf", "x", "1_0", "9" * (DIGITS + 1), "9" * 5000)
        ),
    ],
)
def test_a_count_is_positive_and_no_longer_than_anything_counted(word: str, number: int | None) -> None:
    assert count(word) == number
