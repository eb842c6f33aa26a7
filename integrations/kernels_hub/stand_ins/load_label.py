"""Names of loads in texts, in the place of `kernels.problem.trace`."""

from __future__ import annotations


def label(load: str) -> str:
    """Return the name of a load as it is."""
    return load
