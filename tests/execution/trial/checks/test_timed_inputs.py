"""Inputs of timed calls: new values with the same work, and posed ones whose result is known."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from small_tasks import PROBLEM
from torch import Tensor

from moebench.execution.trial.checks.timed_inputs import TimedInputs
from moebench.kernels.oracle import Result, drop, oracle
from moebench.kernels.problem import Problem
from moebench.kernels.problem.shard import Shard
from moebench.kernels.problem.tensors import Inputs, draw_inputs, draw_weights

CPU = torch.device("cpu")
SMALL = Problem(T=10, D=6, F=4, E=5, K=2, mode="train", load="zipf:1")
PROBLEMS = [
    SMALL,
    SMALL.replace(bias=True, gated=False),
    SMALL.replace(capacity_factor=0.6),
    SMALL.replace(capacity_factor=0.6, drop="gate_weight"),
    SMALL.replace(ranks=2),
    SMALL.replace(ranks=3, capacity_factor=0.6),
    SMALL.replace(load="empty:0.5"),
    SMALL.replace(E=1, K=1),
    SMALL.replace(T=1),
    Problem(T=6, D=8, F=8, E=4, K=2, dtype="float8_e4m3fn"),
]


def drawn(problem: Problem) -> Inputs:
    return draw_inputs(problem, draw_weights(problem, seed=0, device=CPU), seed=1, device=CPU)


def joined(problem: Problem, parts: list[Inputs]) -> Inputs:
    """Return the inputs of all ranks as one."""

    def join(tensors: list[Tensor]) -> Tensor:
        return torch.cat([tensor.detach().float() for tensor in tensors]).to(tensors[0].dtype)

    whole = drawn(problem)
    weights = iter([join([part.weights.named()[name] for part in parts]) for name in parts[0].weights.named()])
    routing = dataclasses.replace(
        whole.routing,
        ids_TK=join([part.routing.ids_TK for part in parts]),
        gates_TK=join([part.routing.gates_TK for part in parts]),
    )
    return Inputs(
        x_TD=join([part.x_TD for part in parts]),
        routing=routing,
        weights=parts[0].weights.map(lambda _: next(weights)),
        dy_TD=None if whole.dy_TD is None else join([part.everything()["dy"] for part in parts]),
    )


def of_ranks(problem: Problem, everyone: Inputs) -> list[TimedInputs]:
    shares = [everyone.shard(Shard.of(problem, rank)) for rank in range(problem.ranks)]
    return [TimedInputs(problem, share, everyone.routing, count=2, rank=rank) for rank, share in enumerate(shares)]


def close(one: Result, other: Result) -> bool:
    pairs = [(one.y_TD, other.y_TD), *((one.gradients[name], other.gradients[name]) for name in one.gradients)]
    return all(torch.allclose(a, b, atol=1e-12) for a, b in pairs)


@pytest.mark.parametrize("problem", PROBLEMS, ids=lambda problem: problem.key)
def test_posed_inputs_have_the_result_of_the_drawn_ones(problem: Problem) -> None:
    """With the gradients of the weights in their new places: by the oracle, for every rank's share.

    The drawn ones are those that the sets were made of, and then others for the same weights, with other routes.
    """
    everyone = drawn(problem)
    timed = of_ranks(problem, everyone)
    for posed in (everyone, draw_inputs(problem, everyone.weights, seed=2, device=CPU)):
        expected = oracle(problem, posed)
        for rank, one in enumerate(timed):
            one.pose(posed.shard(Shard.of(problem, rank)))
        found = oracle(problem, joined(problem, [one.sets[1] for one in timed]))
        for rank, one in enumerate(timed):
            shard = Shard.of(problem, rank)
            assert close(one.exchanged(expected.shard(shard)), found.shard(shard))
            assert (one.written(), one.moved()) == ([], [])
            one.exchanged(expected.shard(shard))
            one.withdraw()
            for own in one.sets:
                for name, tensor in own.weights.named().items():
                    assert torch.equal(tensor.float(), everyone.shard(shard).weights.named()[name].float()), name


@pytest.mark.parametrize("problem", PROBLEMS, ids=lambda problem: problem.key)
def test_new_values_leave_every_expert_its_rows(problem: Problem) -> None:
    everyone = drawn(problem)
    timed = of_ranks(problem, everyone)
    seen = set()
    for _ in range(3):
        now = joined(problem, [one.sets[0] for one in timed])
        seen.add(tuple(now.x_TD.flatten().tolist()))
        for routes, before in (
            (now.routing, everyone.routing),
            (drop(problem, now.routing), drop(problem, everyone.routing)),
        ):
            assert torch.equal(routes.counts_E(), before.counts_E())
        for one in timed:
            one.renew()
    assert len(seen) == 3


def test_writes_are_named_whichever_set_they_are_in() -> None:
    timed = of_ranks(PROBLEM, drawn(PROBLEM))[0]
    timed.sets[1].weights.w_down_EDF.mul_(2)
    timed.sets[0].routing.ids_TK[0, 0].zero_()
    assert timed.written() == ["ids", "w_down"]
    timed.renew()
    assert timed.written() == []


def test_no_tokens_are_inputs_too() -> None:
    nothing = drawn(PROBLEM.replace(T=0))
    timed = of_ranks(PROBLEM, nothing)[0]
    timed.pose(nothing)
    assert timed.moved() == []
