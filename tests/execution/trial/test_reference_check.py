"""Checks whose tokens are partly known: their results are those of the reference, in new places."""

from __future__ import annotations

import pytest
import torch
from small_tasks import PROBLEM

from moebench.execution.trial import reference_check
from moebench.execution.trial.reference_check import NEW_SHARE, ReferenceCheck, ReferenceChecks, Subject
from moebench.kernels.catalog import KERNELS
from moebench.kernels.problem import Problem
from moebench.kernels.problem.draw_routes import check_seed, draw_routes
from moebench.kernels.problem.shard import Shard
from moebench.kernels.problem.tensors import draw_inputs, draw_weights
from moebench.kernels.question import LAYER

CPU = torch.device("cpu")
ODD = Problem(T=13, D=16, F=8, E=5, K=2, load="zipf:1", bias=True)


@pytest.mark.parametrize(
    ("kernel", "problem"),
    [
        ("loop", PROBLEM),
        ("loop", ODD),
        ("loop", ODD.replace(load="empty:0.5")),
        ("loop", ODD.replace(T=1)),
        ("loop", ODD.replace(dtype="bfloat16", gated=False)),
        ("loop", ODD.replace(mode="train")),
        ("loop", ODD.replace(capacity_factor=0.6)),
        ("loop", Problem(T=9, D=8, F=8, E=4, K=2, dtype="float8_e4m3fn")),
        ("dense", PROBLEM.dense()),
        ("matmul", PROBLEM.dense()),
        ("matmul", PROBLEM.dense().replace(mode="train")),
    ],
)
def test_the_expected_result_of_both_checks_is_that_of_the_reference(kernel: str, problem: Problem) -> None:
    checks, question = ReferenceChecks(CPU), KERNELS.load(kernel).question
    first, last = checks.first(Subject(problem, question)), checks.last(Subject(problem, question))
    for check in (first, last):
        truth = question.truth(problem, check.inputs)
        assert check.inputs.x_TD.shape == (problem.T, problem.D)
        expected_TD = check.expected.y_TD if check.row_T is None else check.expected.y_TD[check.row_T]
        assert torch.allclose(expected_TD, truth.y_TD, rtol=1e-12, atol=1e-12)
        for name, gradient in truth.gradients.items():
            assert torch.allclose(check.expected.gradients[name], gradient, rtol=1e-12, atol=1e-12), name
        assert check.changed() == []


@pytest.mark.parametrize(
    "problem",
    [
        ODD.replace(ranks=3),
        ODD.replace(T=2, ranks=4),
        ODD.replace(T=12, ranks=2, wire="bfloat16"),
        ODD.replace(ranks=2, mode="train"),
        ODD.replace(ranks=2, capacity_factor=0.6),
    ],
)
def test_a_rank_expects_its_share_of_the_whole_result(problem: Problem, monkeypatch: pytest.MonkeyPatch) -> None:
    weights = draw_weights(problem, seed=0, device=CPU)
    whole = LAYER.truth(problem, draw_inputs(problem, weights, seed=1, device=CPU))
    for rank in range(problem.ranks):
        monkeypatch.setattr(reference_check, "rank", lambda rank=rank: rank)
        check = ReferenceCheck.draw(Subject(problem, LAYER), weights, seed=1, device=CPU)
        share = whole.shard(Shard.of(problem, rank))
        assert torch.allclose(check.expected.y_TD, share.y_TD, rtol=1e-12, atol=1e-12)
        assert check.expected.gradients.keys() == share.gradients.keys()


@pytest.mark.parametrize("kernel", ["router_alone", "loop"])
@pytest.mark.parametrize("mode", ["forward", "train"])
@pytest.mark.parametrize("router", ["expert_choice", "token_rounding:tile=4"])
def test_both_checks_have_the_same_shapes_where_tokens_have_different_numbers_of_routes(
    router: str, mode: str, kernel: str
) -> None:
    """Some of these seeds draw more routes for a token before timing, some after it."""
    question, narrower = KERNELS.load(kernel).question, []
    for seed in range(6):
        problem = Problem(T=96, D=8, F=8, E=32, K=4, seed=seed, mode=mode).replace(router=router)  # type: ignore[arg-type]
        problem = KERNELS.load(kernel).solves(problem)
        checks, subject = ReferenceChecks(CPU), Subject(problem, question)
        first, last = checks.first(subject), checks.last(subject)
        for name, tensor in first.inputs.of_tokens().items():
            assert tensor.shape == last.inputs.of_tokens()[name].shape, name
            assert tensor.requires_grad == last.inputs.of_tokens()[name].requires_grad, name
        for name, gradient in last.expected.gradients.items():
            assert gradient.shape == last.inputs.tensors()[name].shape, name
        widths = [draw_routes(problem, seed=check_seed(problem, turn), device=CPU).chosen for turn in (0, 1)]
        narrower.append(widths[0] - widths[1])
    if router == "expert_choice":
        assert min(narrower) < 0 < max(narrower)


def test_a_last_check_has_new_tokens_among_known_ones_in_other_places() -> None:
    checks = ReferenceChecks(CPU)
    first, last = (getattr(checks, turn)(Subject(PROBLEM, KERNELS.load("loop").question)) for turn in ("first", "last"))
    known = {tuple(row) for row in first.inputs.x_TD.tolist()}
    rows = [tuple(row) for row in last.inputs.x_TD.tolist()]
    assert sum(row not in known for row in rows) == PROBLEM.T // NEW_SHARE
    assert sum(map(torch.equal, first.inputs.x_TD, last.inputs.x_TD)) < PROBLEM.T // NEW_SHARE
    assert not torch.equal(first.kept.counts_E(), last.kept.counts_E())
