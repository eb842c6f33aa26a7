"""The option of verbs that tell costs: the price of a device-hour."""

from __future__ import annotations

import math
from typing import Annotated

import typer


def _positive(price: float | None) -> float | None:
    if price is not None and not (math.isfinite(price) and price > 0):
        raise typer.BadParameter(f"{price:g} is no price: give what an hour of one device costs, such as 2.50")
    return price


Price = Annotated[
    float | None,
    typer.Option(
        "--price",
        callback=_positive,
        metavar="AMOUNT",
        help="Price of a device-hour in any currency, to tell what a million tokens cost.",
        show_default="no costs",
    ),
]
"""What an hour of one device costs, None where the user states no price."""
