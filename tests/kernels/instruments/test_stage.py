"""Stages: what passes in them adds up to the call, nothing counts twice, and without a recorder nothing happens."""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import count
from typing import Any, get_args

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from moebench.execution.trial.reference_check import call
from moebench.kernels.block_kernel import competing
from moebench.kernels.catalog import KERNELS
from moebench.kernels.config import Config
from moebench.kernels.instruments import stage as staging
from moebench.kernels.instruments.stage import StageName, StageRecorder, record_stages, stage
from moebench.kernels.module.moe_block import MoEBlock
from moebench.kernels.problem import Mode, Problem
from moebench.kernels.problem.tensors import draw_inputs, draw_weights
from moebench.results.record.record import CallStage

CPU = torch.device("cpu")
OWN = [
    name
    for name in KERNELS.names()
    if (kernel := KERNELS.load(name)).family not in ("peer", "reference") and not kernel.is_reference
]
FUSED = [name for name in OWN if name.startswith("triton_")]
COVERED = 0.95
TRIES = 12  # calls of which one must be covered: others may take a core in any of them

Tree = list[tuple[StageName, Any]]
TREES: st.SearchStrategy[Tree] = st.recursive(
    st.just([]),
    lambda inner: st.lists(st.tuples(st.sampled_from(get_args(StageName)), inner), max_size=4),
    max_leaves=12,
)


@pytest.fixture
def ticks(monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """Mark time by counting: one nanosecond passes between two marks."""
    number = count()
    monkeypatch.setattr(staging, "marker", lambda _: lambda: next(number))
    return lambda: next(number)


def built(name: str, mode: Mode, config: Config | None = None) -> Callable[[], object]:
    """Return a call of a small layer that the kernel takes, whose products take most of it."""
    kernel = KERNELS.load(name)
    small = Problem(T=64, D=32, F=32, E=4, K=2, mode=mode, capacity_factor=2.0 if name == "triton_padded" else None)
    problem = small if name in FUSED else small.replace(T=1024, D=128, F=256)
    assert kernel.supports(problem, CPU) is None
    inputs = draw_inputs(problem, draw_weights(problem, seed=0, device=CPU), seed=1, device=CPU)
    layer = kernel.build(problem, {**kernel.space(problem, CPU)[0], **(config or {})}, CPU)
    inputs = inputs.requires_grad_() if mode == "train" else inputs
    return lambda: call(problem, layer, inputs)


def recorded(do: Callable[[], object]) -> tuple[dict[StageName, float], float]:
    with record_stages(CPU) as recorder:
        do()
    return recorder.times_ns()


def enter(tree: Tree) -> None:
    for name, inner in tree:
        with stage(name):
            enter(inner)


def test_kernels_and_records_have_the_same_stages() -> None:
    """Neither may import the other."""
    assert get_args(StageName) == get_args(CallStage)
    assert all(name in (staging.__doc__ or "") for name in get_args(StageName))


@given(tree=TREES)
def test_every_moment_belongs_to_the_innermost_stage_once(tree: Tree) -> None:
    number = count()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(staging, "marker", lambda _: lambda: next(number))
        stages_ns, whole_ns = recorded(lambda: enter(tree))
    assert whole_ns == next(number) - 1  # from the first mark to the last
    assert 0 <= sum(stages_ns.values()) <= whole_ns
    assert stages_ns == expected(tree)


def expected(tree: Tree, *, backward: bool = False) -> dict[StageName, float]:
    """Count what each stage has of a tree where a nanosecond passes between two marks: one more than stages in it."""
    found: dict[StageName, float] = {}

    def walk(nodes: Tree, backward: bool) -> int:
        """Return how many stages are open among the nodes, and inside of those that are not."""
        opened = 0
        for name, inner in nodes:
            if backward and name not in staging.IN_BACKWARD:
                opened += walk(inner, backward)
                continue
            opened += 1
            inside = walk(inner, backward or name == "backward")
            found[name] = found.get(name, 0) + inside + 1
        return opened

    walk(tree, backward)
    return found


def test_a_stage_in_another_takes_its_time_from_it(ticks: Callable[[], int]) -> None:
    def nested() -> None:
        with stage("up"):
            with stage("dispatch"):
                ticks()
            ticks()

    assert recorded(nested) == ({"up": 3.0, "dispatch": 2.0}, 7.0)


@pytest.mark.usefixtures("ticks")
def test_of_a_backward_only_what_ranks_exchange_is_told_apart() -> None:
    def step() -> None:
        with stage("backward"), stage("up"), stage("communication"):
            pass

    stages_ns, _ = recorded(step)
    assert stages_ns == {"backward": 2.0, "communication": 1.0}


def test_a_stage_ends_where_its_block_raises(ticks: Callable[[], int]) -> None:
    def fails() -> None:
        with stage("up"):
            raise KeyError

    with record_stages(CPU) as recorder:
        with pytest.raises(KeyError):
            fails()
        ticks()
    assert recorder.times_ns() == ({"up": 1.0}, 4.0)


def test_two_recordings_at_a_time_are_refused_and_one_that_fails_ends() -> None:
    with record_stages(CPU), pytest.raises(RuntimeError, match="stages are recorded already"), record_stages(CPU):
        pass
    with pytest.raises(KeyError), record_stages(CPU):
        raise KeyError
    assert stage("up") is stage("down")


@pytest.mark.parametrize("mode", ["forward", "train"])
@pytest.mark.parametrize("name", OWN)
def test_the_stages_of_every_implementation_cover_its_call(name: str, mode: Mode) -> None:
    if name == "router_alone":
        pytest.skip("chooses experts, and has a test of its own")
    make = built(name, mode)
    make()
    found = {"dispatch", "up", "down", "combine"} | ({"backward"} if mode == "train" else set())
    for _ in range(TRIES):
        stages_ns, whole_ns = recorded(make)
        assert found <= stages_ns.keys()
        assert sum(stages_ns.values()) <= whole_ns
        assert min(stages_ns.values()) >= 0
        assert ("activation" in stages_ns) == (name not in FUSED)
        assert ("communication" in stages_ns) == KERNELS.load(name).between_ranks
        if sum(stages_ns.values()) >= COVERED * whole_ns:
            return
    pytest.fail(f"{stages_ns} of {whole_ns} ns")


@pytest.mark.parametrize("config", [{"order": "product"}, {"gather": "all", "combine": "bag"}, {"tile": 64}], ids=str)
def test_the_ways_of_scatter_have_stages_too(config: Config) -> None:
    stages_ns, _ = recorded(built("scatter", "forward", config))
    assert stages_ns.keys() == {"dispatch", "up", "activation", "down", "combine"}


def test_a_router_is_a_stage_alone_and_in_a_block() -> None:
    kernel, asked = KERNELS.load("router_alone"), Problem(T=256, D=64, F=64, E=16, K=2)
    problem = kernel.solves(asked)
    drawn = draw_inputs(problem, draw_weights(problem, seed=0, device=CPU), seed=1, device=CPU)
    inputs, layer = kernel.question.given(problem, drawn, 1), kernel.build(problem, {}, CPU)
    assert recorded(lambda: call(problem, layer, inputs))[0].keys() == {"route"}
    block = MoEBlock(D=64, F=64, E=16, K=2, block="shared", dispatch="scatter")
    stages_ns, _ = recorded(lambda: block(torch.randn(32, 64)))
    assert stages_ns.keys() == {"route", "dispatch", "up", "activation", "down", "combine"}


@pytest.mark.parametrize("block", ["soft_moe", "switchhead", "moa"])
def test_blocks_have_stages(block: str) -> None:
    narrow: dict[str, Any] = {} if block == "soft_moe" else {"gated": False, "activation": "identity"}
    problem = Problem(T=32, D=16, F=16, E=4, K=1, block=block, **narrow)
    kernel = competing("loop", problem)
    inputs = draw_inputs(problem, draw_weights(problem, seed=0, device=CPU), seed=1, device=CPU)
    layer = kernel.build(problem, kernel.space(problem, CPU)[0], CPU)
    assert {"dispatch", "up", "down", "combine"} <= recorded(lambda: call(problem, layer, inputs))[0].keys()


def test_without_a_recorder_nothing_is_made_and_no_clock_or_device_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = {name: built(name, "train") for name in ("loop", "scatter", "grouped")}

    def forbidden(*_: object, **__: object) -> None:
        raise AssertionError("asked for without a recorder")

    monkeypatch.setattr(time, "perf_counter_ns", forbidden)
    monkeypatch.setattr(torch.cuda, "Event", forbidden)
    monkeypatch.setattr(torch.cuda.nvtx, "range_push", forbidden)
    monkeypatch.setattr(StageRecorder, "__init__", forbidden)
    for make in calls.values():
        make()
    assert len({id(stage(name)) for name in get_args(StageName)}) == 1


def test_on_a_gpu_stages_are_events_and_nvtx_ranges(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a device that only counts: an event a mark, and ranges that close in the order in which they opened."""
    ranges: list[str] = []
    number = count()

    class Counted:
        def __init__(self, *, enable_timing: bool) -> None:
            assert enable_timing

        def record(self) -> None:
            self.at = next(number)

        def synchronize(self) -> None:
            pass

        def elapsed_time(self, end: Counted) -> float:
            return end.at - self.at

    monkeypatch.setattr(torch.cuda, "Event", Counted)
    monkeypatch.setattr(torch.cuda.nvtx, "range_push", ranges.append)
    monkeypatch.setattr(torch.cuda.nvtx, "range_pop", lambda: ranges.append("end"))
    with record_stages(torch.device("cuda")) as recorder:
        enter([("up", [("dispatch", [])]), ("down", [])])
    assert ranges == ["up", "dispatch", "end", "end", "down", "end"]
    assert recorder.times_ns() == ({"up": 2e6, "dispatch": 1e6, "down": 1e6}, 7e6)


def test_one_graph_holds_a_function_with_stages_whether_or_not_somebody_records() -> None:
    def layer(x: torch.Tensor) -> torch.Tensor:
        with stage("up"):
            y = x @ x
            with stage("activation"):
                y = y.relu()
        with stage("down"):
            return y @ x

    compiled, x = torch.compile(layer, backend="eager", fullgraph=True), torch.randn(4, 4)
    torch.testing.assert_close(compiled(x), layer(x))
    stages_ns, _ = recorded(lambda: torch.testing.assert_close(compiled(x), compiled(x)))
    assert stages_ns == {}
