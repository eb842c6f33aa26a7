"""A trial of a layer with a block: it passes where it is right, and is recorded wrong where the block is not."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
from exhaustive import all_but
from small_tasks import PROBLEM, task
from torch import Tensor

from moebench.execution.trial.trial import TrialRunner
from moebench.kernels.problem import Problem
from moebench.kernels.problem.block import BLOCKS, Block, Experts
from moebench.kernels.problem.tensors import Weights
from moebench.results.record import Record, Status

LINEAR = PROBLEM.replace(gated=False, activation="identity")
PROBLEMS: dict[str, Problem] = {"lora": LINEAR, "soft_moe": PROBLEM.replace(K=1), "moa": LINEAR, "switchhead": LINEAR}


def with_block(name: str, mode: str) -> Problem:
    return PROBLEMS.get(name, PROBLEM).replace(block=name, mode=mode)


def run(runner: TrialRunner, *kernels: str, problem: Problem) -> dict[str, Record]:
    return {record.kernel: record for record in runner.run(task(*kernels, problem=problem), lambda _: None)}


@pytest.mark.parametrize("mode", all_but(["train"], ["forward", "train"]))
@pytest.mark.parametrize("name", BLOCKS.names())
def test_a_right_block_passes(runner: TrialRunner, name: str, mode: str) -> None:
    """Also in the timed calls, whose tokens are others each time and whose experts change places."""
    problem = with_block(name, mode)
    record = run(runner, "loop", problem=problem)["loop"]
    assert (record.status, record.reason) == (Status.passed, "")
    assert record.problem["block"] == name
    assert record.work is not None
    assert record.work.useful_flops == problem.flops(record.work.kept_rows)
    assert record.work.ideal_bytes <= problem.input_bytes + problem.output_bytes
    gradients = {f"d{own}" for own in Block.parse(name).shapes(problem)} if mode == "train" else set()
    assert gradients <= set(record.errors)


Forward = Callable[..., Tensor]
"""That of a block: with itself, the problem, the experts' layer, x, routing and weights."""


def without_own_part(_: Forward) -> Forward:
    """Return a forward that leaves out what is beside the experts."""
    return lambda _block, _problem, experts, *inputs: experts(*inputs)


def without_own_gradients(right: Forward) -> Forward:
    """Return a forward whose values are right, and whose own tensors have no gradients."""

    def wrong(*before: object) -> Tensor:
        *others, weights = before
        assert isinstance(weights, Weights)
        own = {name: tensor.detach() for name, tensor in weights.own.items()}
        return right(*others, dataclasses.replace(weights, own=own))

    return wrong


def that_remembers(right: Forward) -> Forward:
    """Return a forward that computes what stands beside the experts once."""
    kept: list[Tensor] = []

    def wrong(block: Block, problem: Problem, experts: Experts, *inputs: Any) -> Tensor:
        of_experts_TD = experts(*inputs)
        kept.append(right(block, problem, experts, *inputs) - of_experts_TD)
        return of_experts_TD + kept[0]

    return wrong


@pytest.mark.parametrize(
    ("fault", "mode", "reason"),
    [
        (without_own_part, "forward", "y is off by"),
        (without_own_gradients, "train", "dlayer_mlp_up is off by"),
        (that_remembers, "forward", "y is off by"),
    ],
)
def test_a_wrong_block_is_recorded_wrong(
    runner: TrialRunner,
    fault: Callable[[Forward], Forward],
    mode: str,
    reason: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kind = BLOCKS.load("shared")
    monkeypatch.setattr(kind, "forward", fault(kind.forward))  # type: ignore[attr-defined]  # an ExpertBlock has it
    record = run(runner, "loop", problem=with_block("shared", mode))["loop"]
    assert record.status is Status.wrong
    assert reason in record.reason
    assert record.timing is None


def test_kernels_that_cannot_take_the_block_say_so(runner: TrialRunner) -> None:
    records = run(runner, "loop", "matmul", "alltoall", problem=with_block("latent", "forward"))
    assert {name: record.status for name, record in records.items()} == {
        "loop": Status.passed,
        "matmul": Status.unsupported,
        "alltoall": Status.unsupported,
    }
    assert "block = latent" in records["matmul"].reason
