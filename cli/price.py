"""The option of verbs that tell costs: the price of a device-hour."""

from __future__ import annotations

from typing import Annotated, Final

import typer

LEAST_PRICE: Final = 1e-9
HIGHEST_PRICE: Final = 1e12
"""Prices between these are read: more than any device or currency needs, and every cost that they make is a number."""


def parse_price(text: str) -> float:
    """Return the price that a text is.

    Raises:
        BadParameter: when it is none, or outside of the prices that are read.
    """
    try:
        price = float(text)
    except ValueError:
        price = 0.0
    if not LEAST_PRICE <= price <= HIGHEST_PRICE:
        raise typer.BadParameter(
            f"{text!r} is no price: give what an hour of one device costs, such as 2.50, from {LEAST_PRICE:g} to "
            f"{HIGHEST_PRICE:g}"
        )
    return price


Price = Annotated[
    float | None,
    typer.Option(
        "--price",
        parser=parse_price,
        metavar="AMOUNT",
        help="Price of a device-hour in any currency, to tell what a million tokens cost.",
        show_default="no costs",
    ),
]
"""What an hour of one device costs, None where the user states no price."""
