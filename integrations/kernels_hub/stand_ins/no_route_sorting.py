"""Absence of the sorting in CUDA C++, in the place of `kernels.cuda.route_sorting`."""

from __future__ import annotations

from typing import Final, NoReturn

MOST_EXPERTS: Final = 0
MOST_SCHEDULES: Final = 0


def sort_routes(*_: object, **__: object) -> NoReturn:
    """Raise RuntimeError: no number of experts is within the limits above."""
    raise RuntimeError("the folder for the kernels hub has no sources in CUDA C++")
