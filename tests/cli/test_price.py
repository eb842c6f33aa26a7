"""The price of a device-hour: what is read, and that nothing is read that would make a cost no number."""

from __future__ import annotations

import math

import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st

from moebench.cli.price import HIGHEST_PRICE, LEAST_PRICE, parse_price
from moebench.suites.advice.mix_totals import cost


@pytest.mark.parametrize(("text", "price"), [("2", 2.0), (" 2.50 ", 2.5), ("1e-3", 0.001)])
def test_a_price_is_a_positive_number(text: str, price: float) -> None:
    assert parse_price(text) == price


@pytest.mark.parametrize("text", ["", "0", "-0", "-1", "nan", "inf", "1e400", "1e-320", "1e300", "2,50", "$2", "two"])
def test_what_is_no_price_is_named_as_it_was_written_with_the_remedy(text: str) -> None:
    with pytest.raises(typer.BadParameter) as refused:
        parse_price(text)
    assert str(refused.value).startswith(f"{text!r} is no price: give what an hour of one device costs, such as 2.50")


@given(st.floats(LEAST_PRICE, HIGHEST_PRICE), st.floats(1e-9, 1e12), st.integers(1, 10_000))
def test_every_cost_of_a_price_that_is_read_is_a_positive_number(price: float, seconds: float, layers: int) -> None:
    found = cost(seconds, layers, parse_price(repr(price)))
    assert found is not None
    assert math.isfinite(found)
    assert found > 0
