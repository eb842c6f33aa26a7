"""Suites: every one of them is a question about valid problems and known kernels."""

from __future__ import annotations

from typing import get_args

import pytest
import torch

from moebench.autotune.search.space import Space
from moebench.common.names import UnknownName
from moebench.execution.trial.task import Task
from moebench.execution.workers.worker import DeviceType
from moebench.kernels.block_kernel import competing
from moebench.kernels.catalog import KERNELS
from moebench.kernels.compiler.survey import compiled_kernels
from moebench.kernels.kernel import Kernel
from moebench.kernels.problem import Problem
from moebench.results.counters import Number
from moebench.results.record import Size
from moebench.results.references import NOT_COMPETING, REFERENCES
from moebench.suites.gate.call_counters import of_call
from moebench.suites.gate.counted_cases import CountedCase, small
from moebench.suites.plan import tasks
from moebench.suites.suite import SUITES

SIZES = get_args(Size)
DEVICES: dict[Size, DeviceType] = {"small": "cpu", "reduced": "cuda", "full": "cuda"}


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", SUITES.names())
def test_a_suite_asks_a_question_at_places_that_differ(name: str, size: Size) -> None:
    suite = SUITES.load(name)
    assert suite.question.endswith("?")
    assert suite.axis
    if size == "reduced" and suite.reduced is None:
        return
    asked = tasks(name, size, DEVICES[size])
    assert asked
    form = {"small": suite.small, "reduced": suite.reduced, "full": suite.full}[size]
    assert form is not None
    assert form.baseline in KERNELS.names()
    competing = {(task.point, task.problem.key, who.kernel) for task in asked for who in task.competitors}
    assert len(competing) == sum(len(task.competitors) for task in asked), "two tasks would make the same record"
    assert {kernel for _, _, kernel in competing} <= set(KERNELS.names())


@pytest.mark.parametrize("name", [name for name in SUITES.names() if SUITES.load(name).reduced])
def test_a_reduced_form_asks_less_of_the_same(name: str) -> None:
    """A GPU session measures places of the full form, fewer of them, in less time each."""
    full, reduced = tasks(name, "full", "cuda"), tasks(name, "reduced", "cuda")
    assert {task.problem.key for task in reduced} <= {task.problem.key for task in full}
    assert len(reduced) < len(full) / 2
    assert reduced[0].budget.seconds < full[0].budget.seconds


def test_a_suite_without_a_reduced_form_says_which_have_one() -> None:
    with pytest.raises(UnknownName, match="one of capacity, experts, granularity, models, tokens"):
        tasks("smoke", "reduced", "cuda")


def test_the_words_for_references_are_about_the_kernels_that_are_references() -> None:
    assert set(NOT_COMPETING) == {name for name in KERNELS.names() if KERNELS.load(name).is_reference}


def test_a_wrong_name_gets_the_nearest() -> None:
    with pytest.raises(UnknownName, match="did you mean granularity"):
        tasks("granularty", "small", "cpu")


def test_capacity_sweeps_the_published_factors_and_dropless() -> None:
    xs = [task.point.x for task in tasks("capacity", "small", "cpu")]
    assert xs == [1.0, 1.25, 1.5, 2.0, 4.0, "dropless"]


@pytest.mark.parametrize("size", ["small", "full"])
def test_granularity_keeps_flops_and_parameters(size: Size) -> None:
    asked = [task for task in tasks("granularity", size, DEVICES[size]) if task.problem.mode == "forward"]
    problems = [task.problem for task in asked if task.point.series == asked[0].point.series]
    assert len({problem.flops(problem.N) for problem in problems}) == 1
    assert len({problem.weight_bytes for problem in problems}) == 1
    assert (problems[0].E, problems[-1].E) == (8, 256)


@pytest.mark.parametrize(
    ("name", "axis", "smallest", "largest"),
    [("experts", "E", 8, 512), ("tokens", "T", 1, 32768), ("peers", "T", 512, 8192)],
)
@pytest.mark.parametrize("size", ["small", "full"])
def test_sweeps_reach_their_ends(name: str, axis: str, smallest: int, largest: int, size: Size) -> None:
    points = tasks(name, size, DEVICES[size])
    values = [getattr(task.problem, axis) for task in points]
    assert (min(values), max(values)) == (smallest, largest)
    assert all(float(task.point.x) == getattr(task.problem, axis) for task in points)


@pytest.mark.parametrize(("size", "largest"), [("small", 4), ("full", 8)])
def test_parallel_asks_every_dispatcher_on_every_number_of_ranks_in_turn(size: Size, largest: int) -> None:
    points = tasks("parallel", size, DEVICES[size])
    ranks = [task.problem.ranks for task in points]
    assert ranks == sorted(ranks)  # another number of ranks is another group of processes
    assert set(ranks) == {2**power for power in range(largest.bit_length())}
    for task in points:
        names = {who.kernel for who in task.competitors}
        assert names == {"alltoall", "alltoall_dedup", "hierarchical", "allgather"}


def test_overlap_changes_the_chunks_and_nothing_else() -> None:
    points = tasks("overlap", "small", "cpu")
    assert [who.config for task in points for who in task.competitors[:1]] == [
        {"chunks": task.point.x} for task in points
    ]
    assert len({task.problem for task in points}) == 2  # forward and train


def test_peers_compares_with_peers_and_dense_products_at_every_point() -> None:
    asked = tasks("peers", "small", "cpu")
    assert len(asked) == 20
    assert {task.problem.dtype for task in asked} == {"float32", "bfloat16"}
    for task in asked:
        assert {*REFERENCES, "transformers_eager", "transformers_grouped_mm"} <= {
            who.kernel for who in task.competitors
        }


def host_waits(name: str, problem: Problem) -> Number:
    """How often a call waits for the host: counted as on an H100, or on a CPU at a smaller scale."""

    def called(kernel: Kernel, problem: Problem, space: Space, device: torch.device) -> dict[str, Number]:
        return of_call(kernel, problem, space.default, device)

    kernel, compiled = competing(name, problem), name in compiled_kernels()
    asked, target = (problem, "sm_90") if compiled else (small(problem), None)
    return CountedCase(kernel=kernel, model="", problem=asked, parts=(called,), target=target).count()["host_waits"]


def between_ranks(task: Task) -> bool:
    return all(KERNELS.load(who.kernel).between_ranks for who in task.competitors)


@pytest.mark.parametrize("size", ["reduced", "full"])
@pytest.mark.parametrize("name", SUITES.names())
def test_the_baseline_on_a_gpu_is_asked_everywhere_and_goes_into_a_graph(name: str, size: Size) -> None:
    """With hot caches a call that waits for the host is unsupported, and there would be nothing to compare with.

    Dispatchers all wait, a rank having to know what it will be sent; a run with hot caches refuses their suites.
    """
    if size == "reduced" and SUITES.load(name).reduced is None:
        return
    asked = [task for task in tasks(name, size, DEVICES[size]) if not between_ranks(task)]
    # A router alone is no contest.
    asked = [task for task in asked if {who.kernel for who in task.competitors} != {"router_alone"}]
    kinds: dict[object, tuple[str, Problem]] = {}
    for task in asked:
        assert task.point.baseline in {who.kernel for who in task.competitors}, task.point
        kind = (task.point.baseline, task.problem.mode, task.problem.capacity_factor is None)
        kinds.setdefault(kind, (task.point.baseline, task.problem))
    assert all(host_waits(*one) == 0 for one in kinds.values())


def test_what_reads_counts_on_the_host_is_seen_to_wait() -> None:
    assert host_waits("padded", tasks("capacity", "reduced", "cuda")[0].problem) > 0
