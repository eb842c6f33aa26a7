"""Problems that a router takes, whatever it asks of K and E."""

from __future__ import annotations

from moebench.kernels.problem import InvalidProblem, Problem


def fitting(router: str, *, T: int = 64, E: int = 16, K: int = 3, load: str = "uniform", **fields: object) -> Problem:
    """Return a problem of a router: with E and K, or the nearest that it takes."""
    for experts, chosen in ((E, K), (E, 2), (E, 1), (1, 1)):
        try:
            problem = Problem(T=T, D=1, F=1, E=experts, K=chosen, router=router, load=load)
        except InvalidProblem:
            continue
        return problem.replace(**fields)
    raise AssertionError(f"{router} takes none of these problems under {load}")
