"""Suites: every one of them is a question about valid problems and known kernels."""

from __future__ import annotations

from typing import get_args

import pytest

from moebench.kernels.catalog import KERNELS, UnknownName
from moebench.suites.suite import REFERENCES, SUITES, Size, tasks

SIZES = get_args(Size)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", SUITES.names())
def test_a_suite_asks_a_question_at_places_that_differ(name: str, size: Size) -> None:
    suite = SUITES.load(name)
    assert suite.question.endswith("?")
    assert suite.axis
    assert suite.baseline in KERNELS.names()
    asked = tasks(name, size)
    assert asked
    competing = {(task.point, task.problem.key, who.kernel) for task in asked for who in task.competitors}
    assert len(competing) == sum(len(task.competitors) for task in asked), "two tasks would make the same record"
    assert {kernel for _, _, kernel in competing} <= set(KERNELS.names())


def test_a_suite_without_kernels_takes_every_competitor() -> None:
    everyone = {who.kernel for who in tasks("smoke", "small")[0].competitors}
    assert everyone <= set(KERNELS.names()) - set(REFERENCES)


def test_a_wrong_name_gets_the_nearest() -> None:
    with pytest.raises(UnknownName, match="did you mean granularity"):
        tasks("granularty", "small")


def test_capacity_sweeps_the_published_factors_and_dropless() -> None:
    xs = [task.point.x for task in tasks("capacity", "small")]
    assert xs == [1.0, 1.25, 1.5, 2.0, 4.0, "dropless"]


@pytest.mark.parametrize("size", SIZES)
def test_granularity_keeps_flops_and_parameters(size: Size) -> None:
    problems = [task.problem for task in tasks("granularity", size) if task.problem.mode == "forward"]
    assert len({problem.flops(problem.N) for problem in problems}) == 1
    assert len({problem.weight_bytes for problem in problems}) == 1
    assert (problems[0].E, problems[-1].E) == (8, 256)


@pytest.mark.parametrize(
    ("name", "axis", "smallest", "largest"),
    [("experts", "E", 8, 512), ("tokens", "T", 1, 32768), ("parallel", "ranks", 1, 4), ("peers", "T", 512, 8192)],
)
@pytest.mark.parametrize("size", SIZES)
def test_sweeps_reach_their_ends(name: str, axis: str, smallest: int, largest: int, size: Size) -> None:
    points = tasks(name, size)
    values = [getattr(task.problem, axis) for task in points]
    assert (min(values), max(values)) == (smallest, largest)
    assert all(float(task.point.x) == getattr(task.problem, axis) for task in points)


def test_peers_compares_with_peers_and_a_dense_chain_at_every_point() -> None:
    asked = tasks("peers", "small")
    assert len(asked) == 20
    assert {task.problem.dtype for task in asked} == {"float32", "bfloat16"}
    for task in asked:
        assert {"dense", "transformers_eager", "transformers_grouped_mm"} <= {who.kernel for who in task.competitors}
