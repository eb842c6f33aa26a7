"""Cases of a product that the default run leaves out, because others cover them; `.ci/run` takes a tenth each day."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest


def all_but(kept: Iterable[Any], cases: Iterable[Any], **how: Any) -> list[Any]:
    """Return the cases as parameters; those that are not in ``kept`` are exhaustive. ``how`` goes to pytest.param."""
    chosen = list(kept)
    unknown = [one for one in chosen if one not in (every := list(cases))]
    if unknown:
        raise ValueError(f"kept, but no case: {unknown}")
    return [one if one in chosen else pytest.param(one, marks=pytest.mark.exhaustive, **how) for one in every]
