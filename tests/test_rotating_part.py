"""Parts of the tests: together they are all of them, and each test is in one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rotating_part import Part


@given(test=st.text(), parts=st.integers(1, 20))
def test_every_test_is_in_exactly_one_part(test: str, parts: int) -> None:
    assert sum(Part.parse(f"{number}/{parts}").holds(test) for number in range(parts)) == 1


def test_the_parts_are_about_equal() -> None:
    tests = [f"tests/test_x.py::test_y[{number}]" for number in range(1000)]
    assert all(50 < sum(Part(number, 10).holds(test) for test in tests) < 150 for number in range(10))


@pytest.mark.parametrize("text", ["", "3", "3/3", "-1/3", "a/3", "1/", "1/0"])
def test_anything_else_is_refused_with_the_value(text: str) -> None:
    with pytest.raises(ValueError, match=f"--part {text}"):
        Part.parse(text)
