"""`MoELayer(load="observed")` goes by the load of its calls, computes what it would without, and never waits."""

from __future__ import annotations

import copy
import io
import logging
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tables import CONFIGS, PROBLEM, bucket, entry, table
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from moebench.kernels.kernel import Layer
from moebench.kernels.module import apply_experts, built_layers, observed_load
from moebench.kernels.module.moe_block import MoEBlock
from moebench.kernels.module.moe_layer import MoELayer
from moebench.kernels.module.observed_load import AGAIN, EVERY, ROWS_OF_EXPERT, ObservedLoad
from moebench.kernels.problem import Problem
from moebench.kernels.problem.draw_routes import draw_routes
from moebench.kernels.problem.routing import Routing
from moebench.kernels.tuned.lookup import FOLDER, STALE
from moebench.kernels.tuned.select import Choice, choose
from moebench.results.timing.operators import count_operators

CPU = torch.device("cpu")
E, K = 64, 8  # at which drawn loads are told apart without a mistake
ENOUGH = ROWS_OF_EXPERT * E // K  # tokens that fill a window in one call
SKEWED, EVEN = "zipf:1", "uniform"


def routes(load: str, T: int = ENOUGH, seed: int = 0, K: int = K) -> Routing:
    problem = Problem(T=T, D=1, F=1, E=E, K=K, load=load, router="softmax_topk")
    return draw_routes(problem, seed=seed, device=CPU)


def seen(observed: ObservedLoad, *loads: str) -> list[str | None]:
    """Return what is observed after a window of each of some loads."""
    found = []
    for seed, load in enumerate(loads):
        for _ in range(EVERY):
            observed.of_call(routes(load, seed=seed))
        found.append(observed.load)
    return found


def test_nothing_is_known_before_there_are_rows_enough() -> None:
    observed = ObservedLoad(E)
    for _ in range(3 * EVERY):
        assert observed.of_call(routes(SKEWED, T=ENOUGH // 4)) is None
    assert observed.of_call(routes(SKEWED, T=ENOUGH // 4)) == SKEWED
    empty = ObservedLoad(E)
    assert [empty.of_call(routes(SKEWED, T=0)) for _ in range(2 * EVERY)] == [None] * 2 * EVERY


def test_another_load_must_show_in_some_windows_in_a_row() -> None:
    assert AGAIN == 2
    assert seen(ObservedLoad(E), EVEN, SKEWED, EVEN, SKEWED, SKEWED, EVEN, EVEN) == [
        *[EVEN] * 4,
        SKEWED,
        SKEWED,
        EVEN,
    ]
    assert seen(ObservedLoad(E), EVEN, SKEWED, "hot", SKEWED, "hot") == [EVEN] * 5, "each time another one"


@settings(max_examples=40, deadline=None)
@given(st.lists(st.sampled_from([EVEN, SKEWED, "hot"]), min_size=1, max_size=12))
def test_it_changes_at_most_as_often_as_windows_allow_and_only_to_what_was_seen(loads: list[str]) -> None:
    found = seen(ObservedLoad(E), *loads)
    changes = sum(one != other for one, other in pairwise(found))
    assert found[0] == loads[0]
    assert set(found) <= set(loads)
    assert changes <= len(loads) // AGAIN


def test_routes_of_another_number_of_choices_begin_a_window() -> None:
    observed = ObservedLoad(E)
    observed.of_call(routes(SKEWED, T=ENOUGH - 1))
    for seed in range(2 * EVERY - 1):
        assert observed.of_call(routes(EVEN, seed=seed, K=K // 2)) is None
    assert observed.of_call(routes(EVEN, seed=2 * EVERY, K=K // 2)) == EVEN, "the skewed rows are left out"


# --- no host waits ----------------------------------------------------------------------------------------------------


class OnGpu(Tensor):
    """A tensor that says it is on a GPU, and fails where the host would wait for its values."""

    WAITS: ClassVar = ("item", "tolist", "cpu", "numpy", "bincount", "__bool__", "__int__", "__index__", "nonzero")

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func == Tensor.device.__get__:
            return torch.device("cuda", 0)
        if func == Tensor.to and "cpu" in args:
            assert kwargs == {"non_blocking": True}
            return args[0].as_subclass(Tensor).clone()
        assert func.__name__ not in cls.WAITS, f"{func.__name__} waits"
        return super().__torch_function__(func, types, args, kwargs or {})  # type: ignore[no-untyped-call]


class FakeEvent:
    """An event of a GPU that has happened when a test says so; to wait for it fails."""

    made: ClassVar[list[FakeEvent]] = []

    def __init__(self) -> None:
        self.happened = False
        self.recorded = False
        self.made.append(self)

    def record(self, stream: object) -> None:
        assert stream == "the stream of cuda:0"
        self.recorded = True

    def query(self) -> bool:
        assert self.recorded
        return self.happened


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Return a fake GPU that captures nothing at first."""
    state = SimpleNamespace(capturing=False, events=[])
    monkeypatch.setattr(FakeEvent, "made", state.events)
    monkeypatch.setattr(torch.cuda, "Event", FakeEvent)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: f"the stream of {device}")
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: state.capturing)
    return state


def on_gpu(routing: Routing) -> Routing:
    return Routing(ids_TK=routing.ids_TK.as_subclass(OnGpu), gates_TK=routing.gates_TK, experts=E)


def test_counts_of_a_gpu_are_read_by_a_later_call_once_they_are_there(gpu: SimpleNamespace) -> None:
    observed = ObservedLoad(E)
    for _ in range(5 * EVERY):
        assert observed.of_call(on_gpu(routes(SKEWED))) is None
    assert len(gpu.events) == 1, "nothing more is counted before the first has arrived"
    gpu.events[0].happened = True
    assert observed.of_call(on_gpu(routes(EVEN))) == SKEWED


def test_under_capture_of_a_graph_nothing_is_counted_asked_or_changed(gpu: SimpleNamespace) -> None:
    observed = ObservedLoad(E)
    gpu.capturing = True
    for _ in range(2 * EVERY):
        assert observed.of_call(on_gpu(routes(SKEWED))) is None
    assert gpu.events == []
    gpu.capturing = False
    observed.of_call(on_gpu(routes(SKEWED)))
    gpu.events[0].happened, gpu.capturing = True, True
    gpu.events[0].recorded = False  # so that a query fails
    assert observed.of_call(on_gpu(routes(SKEWED))) is None
    gpu.events[0].recorded, gpu.capturing = True, False
    assert observed.of_call(on_gpu(routes(SKEWED))) == SKEWED


@given(st.lists(st.integers(-1, E - 1), max_size=60))
def test_counts_of_a_gpu_do_not_wait_and_are_the_same(ids: list[int]) -> None:
    ids_TK = torch.tensor(ids, dtype=torch.int32).reshape(-1, 1)
    routing = Routing(ids_TK=ids_TK, gates_TK=torch.ones(ids_TK.shape), experts=E)
    with count_operators() as operators:
        found_E = on_gpu(routing).counts_E().as_subclass(Tensor)
    assert operators.waits == 0
    assert found_E.tolist() == routing.counts_E().tolist()


def test_a_thread_does_not_wait_for_another_that_counts() -> None:
    observed = ObservedLoad(E)
    with observed._lock:
        assert observed.of_call(routes(SKEWED)) is None
    assert observed.of_call(routes(SKEWED)) == SKEWED


# --- a layer ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def tuned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have a table of scatter with another configuration for each load; the default is the first."""
    monkeypatch.setenv(FOLDER, str(tmp_path))
    monkeypatch.delenv(STALE, raising=False)
    shape = PROBLEM.replace(T=0, E=E, K=K, dtype="float32")
    entries = [
        entry(bucket(ENOUGH, [9e5, *times]), shape=shape, loads=(load,))
        for load, times in ((EVEN, (1e5, 8e5)), ("zipf:1.1", (8e5, 1e5)))
    ]
    (tmp_path / "scatter.json").write_text(table(*entries).text(), encoding="utf-8")
    built_layers.forget()


@pytest.fixture
def chosen(monkeypatch: pytest.MonkeyPatch) -> list[Choice]:
    """Return the choices of kernels, in order."""
    made: list[Choice] = []

    def build(self: Choice, *_: object) -> Layer:
        made.append(self)
        return lambda x_TD, *_: x_TD

    monkeypatch.setattr(Choice, "build", build)
    return made


def made(**options: Any) -> MoELayer:
    return MoELayer(D=PROBLEM.D, F=PROBLEM.F, E=E, dispatch="scatter", **options)


def run(layer: MoELayer, load: str, calls: int = 1) -> None:
    with torch.no_grad():
        for seed in range(calls):
            routing = routes(load, seed=seed)
            layer(torch.ones(ENOUGH, PROBLEM.D), routing.ids_TK, routing.gates_TK)


@pytest.mark.usefixtures("tuned")
@pytest.mark.parametrize(("load", "config"), [(EVEN, CONFIGS[1]), (SKEWED, CONFIGS[2]), ("hot", CONFIGS[1])])
def test_the_entry_of_the_nearest_load_decides(chosen: list[Choice], load: str, config: object) -> None:
    """A hot expert alone is nearer to even than to Zipf: the other rows are even."""
    run(made(load="observed"), load)
    assert [one.config for one in chosen] == [config]
    nearest = "; for load zipf:1.1, the nearest that is tuned" if load == SKEWED else ""
    assert chosen[0].why.startswith(f"tuned at T = {ENOUGH}{nearest}")


@pytest.mark.usefixtures("tuned")
def test_without_the_option_a_layer_stays_with_the_uniform_entry(chosen: list[Choice]) -> None:
    run(made(), SKEWED, calls=3 * EVERY)
    assert [one.config for one in chosen] == [CONFIGS[1]]


@pytest.mark.usefixtures("tuned")
def test_a_layer_whose_load_changes_builds_once_for_each_and_says_why(
    chosen: list[Choice], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="moebench")
    layer = made(load="observed")
    for load in (EVEN, SKEWED, EVEN, SKEWED):
        run(layer, load, calls=AGAIN * EVERY)
    assert [one.config for one in chosen] == [CONFIGS[1], CONFIGS[2]]
    changes = [one for one in caplog.messages if one.startswith("load of")]
    assert changes == [
        "load of 64 experts: uniform, before unknown",
        "load of 64 experts: zipf:1, before uniform",
        "load of 64 experts: uniform, before zipf:1",
        "load of 64 experts: zipf:1, before uniform",
    ]
    assert any("zipf:1.1, the nearest that is tuned" in one for one in caplog.messages)


@pytest.mark.parametrize("load", [EVEN, SKEWED, "hot", "text"])
def test_results_and_gradients_are_those_of_a_plain_layer(load: str) -> None:
    """The kernel is free, on a CPU by the cost model for the observed load."""
    layer = MoELayer(D=16, F=8, E=E, load="observed")
    plain = MoELayer(D=16, F=8, E=E)
    plain.load_state_dict(layer.state_dict())
    for seed in range(EVERY + 2):
        routing = routes(load, seed=seed)
        x_TD = torch.randn(ENOUGH, 16, generator=torch.Generator().manual_seed(seed), requires_grad=True)
        both = [one(x_TD, routing.ids_TK, routing.gates_TK) for one in (layer, plain)]
        torch.testing.assert_close(*both, rtol=1e-4, atol=1e-5)
        gradients = [
            torch.autograd.grad(y_TD.square().sum(), [x_TD, *one.parameters()])
            for y_TD, one in zip(both, (layer, plain), strict=True)
        ]
        torch.testing.assert_close(*gradients, rtol=1e-3, atol=1e-4)
    assert layer.observed is not None
    assert layer.observed.load is not None


def test_a_checkpoint_repeats_a_forward_with_the_same_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows decide before a forward, never between it and its repetition."""
    layer, built = MoELayer(D=16, F=8, E=E, load="observed"), built_layers.built
    asked: list[str | None] = []

    def asking(problem: Problem, T: int, K: int, load: str | None, *rest: Any) -> Layer:
        asked.append(load)
        return built(problem, T, K, load, *rest)

    monkeypatch.setattr(apply_experts, "built", asking)
    for seed in range(3 * EVERY):
        routing = routes(EVEN if seed < EVERY else SKEWED, seed=seed)
        x_TD = torch.randn(ENOUGH, 16, requires_grad=True)
        y_TD = checkpoint(layer, x_TD, routing.ids_TK, routing.gates_TK, use_reentrant=False)
        y_TD.sum().backward()
    assert asked[::2] == asked[1::2]
    assert set(asked) == {EVEN, SKEWED}
    assert layer.observed is not None
    assert layer.observed._calls == 3 * EVERY, "repetitions are not counted"


def test_what_was_observed_is_in_no_state_and_no_copy() -> None:
    layer = made(load="observed")
    run(layer, SKEWED)
    assert layer.observed is not None
    assert layer.observed.load == SKEWED
    assert layer.state_dict().keys() == made().state_dict().keys()
    buffer = io.BytesIO()
    torch.save(layer, buffer)
    buffer.seek(0)
    copies = [copy.deepcopy(layer), copy.copy(layer.observed), torch.load(buffer, weights_only=False)]
    for one in copies:
        observed = getattr(one, "observed", one)
        assert observed is not layer.observed
        assert observed.load is None
        assert seen(observed, SKEWED) == [SKEWED]


def test_on_meta_nothing_is_observed() -> None:
    layer = made(load="observed", device="meta")
    ids_TK = torch.zeros(ENOUGH, K, dtype=torch.int64, device="meta")
    y_TD = layer(torch.empty(ENOUGH, PROBLEM.D, device="meta"), ids_TK, torch.empty(ENOUGH, K, device="meta"))
    assert y_TD.shape == (ENOUGH, PROBLEM.D)
    assert layer.observed is not None
    assert layer.observed._calls == 0


def test_the_option_is_shown_goes_through_blocks_and_is_checked() -> None:
    assert "load='observed'" in repr(made(load="observed"))
    assert "load" not in repr(made())
    block = MoEBlock(D=8, F=4, E=4, K=2, load="observed")
    assert block.experts.observed is not None
    assert MoELayer.from_weights(block.experts.weights, load="observed").observed is not None
    with pytest.raises(ValueError, match="load = 'zipf:1': give one of uniform, observed"):
        made(load="zipf:1")
    with pytest.raises(ValueError, match="batch_invariant = True, but with load = 'observed'"):
        made(load="observed", batch_invariant=True)


def test_choices_by_the_nearest_load_need_no_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(FOLDER, str(tmp_path))
    problem = Problem(T=64, D=16, F=8, E=E, K=K, load="hot")
    assert choose(problem, CPU, nearest=True) == choose(problem, CPU)
    assert observed_load.LOADS[0] == "uniform", "of equally near loads the first is taken"
