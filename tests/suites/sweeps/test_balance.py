"""Balance in its small form: what it leaves out of every router would be measured twice."""

from __future__ import annotations

import torch

from moebench.kernels.problem.draw_routes import draw_routes
from moebench.suites.sweeps._every_router import SPECS, routed
from moebench.suites.sweeps.balance import SMALL, suite


def test_each_router_that_is_left_out_chooses_the_experts_of_one_that_is_not() -> None:
    """Equal routes are equally even, and take a dispatch as long."""
    for load in ("zipf:1", "text"):
        problems = [place.problem for place in suite.small.places if place.problem.load == load]
        assert len({problem.router for problem in problems}) == len(problems)
        chosen = {problem.router: draw_routes(problem, seed=1, device=torch.device("cpu")) for problem in problems}
        for spec in SPECS:
            problem = routed(SMALL, spec, load=load)
            if problem.router in chosen:
                continue
            ids_TK = draw_routes(problem, seed=1, device=torch.device("cpu")).ids_TK
            plain_TK = chosen[SMALL.problem.router].ids_TK
            torch.testing.assert_close(ids_TK.sort(1).values, plain_TK.sort(1).values, msg=spec)


def test_the_full_form_has_every_router() -> None:
    assert {place.problem.router for place in suite.full.places} == set(SPECS)
