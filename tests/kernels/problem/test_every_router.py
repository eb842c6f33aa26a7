"""Promises of every router, whichever file it is: the interface's, on ordinary logits and on extreme ones."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import product

import pytest
import torch
from fitting_problems import fitting
from gate_promises import GatePromise
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from moebench.kernels.problem import InvalidProblem, Problem
from moebench.kernels.problem.draw_routes import draw_router_inputs, draw_routes, route
from moebench.kernels.problem.router import ROUTERS, Router, RouterInputs
from moebench.kernels.problem.routing import NO_ROUTE, Routing

CPU = torch.device("cpu")
SPECS = (
    *ROUTERS.names(),
    "softmax_topk:groups=4,top_groups=2,scale=16",
    "softmax_topk_renorm:bias=0.1",
    "softmax_topk:zero_experts=8,scale=6",
    "sigmoid_topk:groups=4,top_groups=2,bias=0.1,scale=2.5",
    "sigmoid_topk:renormalise=false",
    "sigmoid_topk:shared_experts=2,scale=2.5",
    "topk_sigmoid:renormalise=true",
    "sparsemixer:jitter=0.4",
    "token_rounding:tile=16,rounding=up",
    "token_rounding:tile=16,rounding=down",
    "hash:table=balanced",
    "hash:gates=sqrt_softplus,scale=1.5",
    "mixture_of_depths:share=0.5",
)
every_router = pytest.mark.parametrize("spec", SPECS)
RANDOM = {"noisy_topk", "gshard_top2"}
"""Routers that draw numbers, one for each token in order."""


def inputs_for(problem: Problem, logits_TE: Tensor, seed: int = 0) -> RouterInputs:
    """Return inputs with these logits, and with token ids where the router reads them."""
    drawn = draw_router_inputs(problem.replace(T=len(logits_TE)), seed=seed)
    return replace(drawn, logits_TE=logits_TE, generator=torch.Generator().manual_seed(seed))


def columns(problem: Problem) -> int:
    return problem.E + Router.parse(problem.router).extra_columns


def logits_for(problem: Problem, T: int, *, scale: float = 1.0, seed: int = 0) -> Tensor:
    return torch.randn(T, columns(problem), generator=torch.Generator().manual_seed(seed)) * scale


def assert_keeps_promises(problem: Problem, routing: Routing, T: int) -> None:
    """Check the promises of `Router.route` that hold whatever the logits are."""
    router = Router.parse(problem.router)
    ids_TW, gates_TW = routing.ids_TK, routing.gates_TK
    assert (ids_TW.dtype, gates_TW.dtype) == (torch.int32, torch.float32)
    assert ids_TW.shape == gates_TW.shape
    assert (len(ids_TW), ids_TW.shape[1] >= 1) == (T, True)
    assert ((ids_TW >= NO_ROUTE) & (ids_TW < problem.E)).all()
    assert gates_TW[ids_TW != NO_ROUTE].isfinite().all()
    for row in ids_TW.tolist():
        chosen = [expert for expert in row if expert != NO_ROUTE]
        assert len(set(chosen)) == len(chosen), "an expert twice"
        if not router.leaves_out:
            assert len(chosen) == problem.K


@every_router
@given(T=st.integers(0, 40), seed=st.integers(0, 1000), scale=st.sampled_from([0.01, 1.0, 30.0, 1e4]))
def test_ids_are_in_range_each_once_and_gates_are_finite(spec: str, T: int, seed: int, scale: float) -> None:
    problem = fitting(spec)
    routing = route(
        Router.parse(spec), inputs_for(problem, logits_for(problem, T, scale=scale, seed=seed), seed), problem.K
    )
    assert_keeps_promises(problem, routing, T)


@every_router
@pytest.mark.parametrize("shape", ["one expert", "all experts", "one token", "equal logits"])
def test_corners_keep_the_promises(spec: str, shape: str) -> None:
    E, K, T = {"one expert": (1, 1, 9), "all experts": (4, 4, 9)}.get(shape, (16, 3, 1 if shape == "one token" else 32))
    try:
        problem = fitting(spec, E=E, K=K)
    except AssertionError as error:
        pytest.skip(str(error))
    logits_TE = torch.zeros(T, columns(problem)) if shape == "equal logits" else logits_for(problem, T)
    routing = route(Router.parse(spec), inputs_for(problem, logits_TE), problem.K)
    assert_keeps_promises(problem, routing, T)


TIES_GO_LOWER = sorted(
    spec
    for spec in SPECS
    if (router := Router.parse(spec)).follows_load and not router.reads_token_ids and not router.leaves_out
)


@pytest.mark.parametrize("spec", TIES_GO_LOWER)
def test_of_equal_logits_the_lower_experts_are_chosen_in_order(spec: str) -> None:
    problem = fitting(spec)
    routing = route(Router.parse(spec), inputs_for(problem, torch.zeros(5, columns(problem))), problem.K)
    assert routing.ids_TK.tolist() == [list(range(problem.K))] * 5


@every_router
@pytest.mark.parametrize("infinite", [math.inf, -math.inf])
def test_an_infinite_logit_is_chosen_or_left_and_gates_of_others_stay_finite(spec: str, infinite: float) -> None:
    problem = fitting(spec)
    logits_TE = logits_for(problem, 24)
    logits_TE[:, 0] = infinite
    router = Router.parse(spec)
    routing = route(router, inputs_for(problem, logits_TE), problem.K)
    ids_TW = routing.ids_TK
    assert ((ids_TW >= NO_ROUTE) & (ids_TW < problem.E)).all()
    if router.reads_token_ids or problem.E == 1 or spec == "base":  # ids choose, there is one, all take as many
        return
    if infinite < 0:
        assert not (ids_TW == 0).any()
        assert routing.gates_TK[ids_TW != NO_ROUTE].isfinite().all()
    elif router.follows_load:
        assert (ids_TW[:, 0] == 0).all()


@every_router
def test_a_logit_that_is_nan_is_refused_with_the_token_named(spec: str) -> None:
    problem = fitting(spec)
    logits_TE = logits_for(problem, 8)
    logits_TE[5, 0] = math.nan
    with pytest.raises(ValueError, match="logit of token 5 for expert 0 is NaN"):
        route(Router.parse(spec), inputs_for(problem, logits_TE), problem.K)


@every_router
def test_nan_that_no_host_looked_for_leaves_ids_in_range(spec: str) -> None:
    """On a device a check would wait: what is chosen then must still be an expert."""
    problem, router = fitting(spec), Router.parse(spec)
    logits_TE = logits_for(problem, 8)
    logits_TE[5, 0] = math.nan
    logits_TE[6] = math.nan
    ids_TW, _ = router.route(inputs_for(problem, logits_TE), problem.K)
    assert ((ids_TW >= NO_ROUTE) & (ids_TW < columns(problem))).all()


@every_router
@given(seed=st.integers(0, 1000))
def test_tokens_in_another_order_have_their_routes_in_that_order(spec: str, seed: int) -> None:
    """A router whose tokens choose treats each alike; scores without ties let one of a batch do so too."""
    router = Router.parse(spec)
    if spec in RANDOM:
        pytest.skip("its random numbers are drawn in the order of the tokens")
    problem = fitting(spec)
    T = 32 if spec != "base" else 2 * problem.E
    inputs = inputs_for(problem, logits_for(problem, T, seed=seed))
    order_T = torch.randperm(T, generator=torch.Generator().manual_seed(seed))
    token_T = None if inputs.token_T is None else inputs.token_T[order_T]
    moved = replace(inputs, logits_TE=inputs.logits_TE[order_T], token_T=token_T)
    here, there = route(router, inputs, problem.K), route(router, moved, problem.K)
    assert torch.equal(here.ids_TK[order_T], there.ids_TK)
    torch.testing.assert_close(here.gates_TK[order_T], there.gates_TK)


@every_router
def test_a_token_alone_chooses_as_in_company_unless_the_router_is_of_the_batch(spec: str) -> None:
    router, problem = Router.parse(spec), fitting(spec)
    if spec in RANDOM:
        pytest.skip("its random numbers are drawn in the order of the tokens")
    inputs = inputs_for(problem, logits_for(problem, 32))
    together = route(router, inputs, problem.K)
    apart = [
        route(
            router,
            replace(
                inputs,
                logits_TE=inputs.logits_TE[t : t + 1],
                token_T=None if inputs.token_T is None else inputs.token_T[t : t + 1],
            ),
            problem.K,
        )
        for t in range(32)
    ]
    if (together.ids_TK == NO_ROUTE).all():
        pytest.skip("so few rows are rounded to none")
    alone = [sorted(one.ids_TK[one.ids_TK != NO_ROUTE].tolist()) for one in apart]
    company = [sorted(e for e in row if e != NO_ROUTE) for row in together.ids_TK.tolist()]
    assert (alone == company) != router.of_batch


@every_router
@pytest.mark.parametrize("load", ["uniform", "zipf:1.2", "dirichlet:0.3", "hot", "modalities:0.9", "text"])
def test_drawn_routes_repeat_for_a_seed(spec: str, load: str) -> None:
    problem = fitting(spec, load=load)
    first, again = (draw_routes(problem, seed=7, device=CPU) for _ in range(2))
    assert torch.equal(first.ids_TK, again.ids_TK)
    assert torch.equal(first.gates_TK, again.gates_TK)
    assert_keeps_promises(problem, first, problem.T)


def gates_of(spec: str, problem: Problem, inputs: RouterInputs) -> Tensor:
    """Return the gates of a router, those of its extra columns too; 0 where there is no route."""
    ids_TW, gates_TW = Router.parse(spec).route(inputs, problem.K)
    return gates_TW.masked_fill(ids_TW == NO_ROUTE, 0)


@every_router
@given(seed=st.integers(0, 1000), scale=st.sampled_from([0.01, 1.0, 30.0]))
def test_gates_add_up_to_what_the_docstring_says(spec: str, seed: int, scale: float) -> None:
    problem = fitting(spec)
    logits_TE = logits_for(problem, 32, scale=scale, seed=seed)
    gates_TW = gates_of(spec, problem, inputs_for(problem, logits_TE, seed))
    assert GatePromise.of(Router.parse(spec)).excess(gates_TW) <= 1e-5


@every_router
def test_gates_that_always_add_up_to_a_number_are_not_only_said_to_be_at_most_that(spec: str) -> None:
    problem, promise = fitting(spec), GatePromise.of(Router.parse(spec))
    if not promise.at_most:
        return
    gates_TW = gates_of(spec, problem, inputs_for(problem, logits_for(problem, 64)))
    exactly = GatePromise(of_sum=promise.of_sum, at_most=False, bound=promise.bound)
    assert exactly.excess(gates_TW) > 1e-3


DIFFERENCES = ((1, 2 / 3), (2, -1 / 12))
"""Steps and their weights in the central difference whose error is of the fourth order."""


@every_router
def test_gates_have_the_gradients_of_central_differences(spec: str) -> None:
    """Every gate's gradient in every logit, in float64 up to the gates' own rounding; choices are held.

    Gates that are constants have none.
    """
    problem = fitting(spec, T=6)
    # No step from these logits changes a choice of any router.
    logits_TE = logits_for(problem, 6, seed=8).double()
    inputs, step = inputs_for(problem, logits_TE.clone()), 0.002

    def gates(logits_TE: Tensor) -> Tensor:
        generator = torch.Generator().manual_seed(0)
        return gates_of(spec, problem, replace(inputs, logits_TE=logits_TE, generator=generator)).double()

    found_TW = gates(inputs.logits_TE.requires_grad_())
    if not found_TW.requires_grad:
        assert spec.startswith("hash")
        return
    gradients_TWTE = torch.stack(
        [torch.autograd.grad(gate, inputs.logits_TE, retain_graph=True)[0] for gate in found_TW.flatten()]
    ).view(*found_TW.shape, *logits_TE.shape)
    rounding = 2e-4 * max(1.0, float(found_TW.detach().abs().max()))
    for t, e in product(range(6), range(columns(problem))):
        moved_TE = torch.zeros_like(logits_TE)
        moved_TE[t, e] = step
        with torch.no_grad():
            expected_TW = sum(
                weight * (gates(logits_TE + n * moved_TE) - gates(logits_TE - n * moved_TE))
                for n, weight in DIFFERENCES
            )
        torch.testing.assert_close(gradients_TWTE[..., t, e], expected_TW / step, rtol=1e-4, atol=rounding)


@every_router
def test_the_router_for_fewer_experts_takes_any_part_of_them(spec: str) -> None:
    """Implementations between ranks and reference rates ask for problems of fewer experts."""
    problem = fitting(spec)
    fewer = Router.parse(problem.router).for_fewer_experts().spec
    for experts in {1, max(1, problem.E // 2)}:
        local = problem.replace(E=experts, K=min(problem.K, experts), T=5, router=fewer, load="uniform")
        assert not local.leaves_out
    assert problem.dense().E == 1


@every_router
def test_what_a_router_cannot_do_is_refused_with_the_value_and_the_remedy(spec: str) -> None:
    """Every shape is either taken, or refused in words that name what was given and what to give."""
    for E, K in ((16, 3), (16, 1), (1, 1), (7, 2)):
        try:
            Problem(T=8, D=1, F=1, E=E, K=K, router=spec)
        except InvalidProblem as error:
            message = str(error)
            assert f"router = {spec!r}" in message or f"router = '{spec.partition(':')[0]}" in message
            assert "give" in message
            assert f"E = {E}" in message or f"K = {K}" in message
