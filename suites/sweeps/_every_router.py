"""Problems of one layer under every router, for the suites that compare routers."""

from __future__ import annotations

from ...kernels.problem import InvalidProblem, Problem
from ...kernels.problem.router import ROUTERS
from ..layer import Layer

# Groups, scale and renormalisation of a released model beside the plain form of every file.
MORE = ("sigmoid_topk:groups=8,top_groups=4,scale=2.5",)
SPECS = (*ROUTERS.names(), *MORE)


def routed(layer: Layer, spec: str, **fields: object) -> Problem:
    """Return the problem with another router and fields, and with the K, or the one expert, that the router takes.

    Raises:
        InvalidProblem: when it takes none of them.
    """
    for sizes_taken in ({}, {"K": 2}, {"K": 1}):
        try:
            return layer.changed(router=spec, **fields, **sizes_taken)
        except InvalidProblem:
            continue
    return layer.changed(router=spec, **fields, E=1, K=1)


def takes(layer: Layer, spec: str, **fields: object) -> bool:
    """Return whether a router takes the layer in any of these sizes."""
    try:
        routed(layer, spec, **fields)
    except InvalidProblem:
        return False
    return True


def sizes(problem: Problem) -> str:
    """Return the sizes by which routers that compete on one layer may differ."""
    return f"T={problem.T}, E={problem.E}, K={problem.K}"
