"""Selection of a kernel for a layer that names none, and the error when none fits."""

from __future__ import annotations

import dataclasses
import re
import time
from pathlib import Path

import pytest
import torch
from tables import CONFIGS, PROBLEM, bucket, entry, table

from moebench.common.names import UnknownName
from moebench.kernels.catalog import KERNELS
from moebench.kernels.config import Config
from moebench.kernels.cost_model.expert_rows import expected_routing, rows_of_experts
from moebench.kernels.kernel import Kernel
from moebench.kernels.problem import Problem
from moebench.kernels.problem.draw_routes import draw_routes
from moebench.kernels.problem.tensors import Weights
from moebench.kernels.steps import Rates
from moebench.kernels.tuned import lookup, select
from moebench.kernels.tuned.kept_rates import RatesHere
from moebench.kernels.tuned.lookup import FOLDER, STALE
from moebench.kernels.tuned.select import TRUSTED, TimeModel, candidates, choose
from moebench.kernels.tuned.source_hash import source_hash
from moebench.kernels.tuned.tuned_table import TunedTable, shape_of

CPU = torch.device("cpu")
FEW = Problem(T=16, D=16, F=32, E=4, K=2)
NARROW = Problem(T=512, D=512, F=192, E=128, K=8, dtype="bfloat16")  # many narrow experts with few rows each
RATES = Rates(flops_per_s=9e11, bytes_per_s=6e10, call_s=4e-6)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return an empty folder of tables."""
    monkeypatch.setenv(FOLDER, str(tmp_path))
    monkeypatch.delenv(STALE, raising=False)
    return tmp_path


def put(home: Path, one: TunedTable) -> None:
    (home / f"{one.kernel}.json").write_text(one.text(), encoding="utf-8")


@pytest.fixture(autouse=True)
def rates(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rates of no machine, so that choices are the same on all."""
    monkeypatch.setattr(select, "rates_here", lambda _: RatesHere(RATES, "the rates of a test"))


@pytest.mark.parametrize(
    ("problem", "name"),
    [
        (NARROW, "padded"),
        (NARROW.replace(T=8192), "scatter"),  # its rows stay in cache, those of the others lie in new pages
        (NARROW.replace(T=1), "grouped"),  # the others read the weights of all experts, or make more calls
        (NARROW.replace(load="hot"), "grouped"),  # padding to the fullest expert would be nearly all
        (NARROW.replace(bias=True), "grouped"),
        (NARROW.replace(capacity_factor=1.0), "padded"),
        (FEW.replace(D=7, bias=True), "scatter"),  # grouped wants aligned widths
    ],
    ids=str,
)
def test_on_a_cpu_the_cost_model_decides(problem: Problem, name: str) -> None:
    kernel, config, why, _ = choose(problem, CPU)
    assert kernel.name == name
    assert config in kernel.space(problem, CPU)
    assert re.fullmatch(
        rf"the fastest of \d by the cost model with the rates of a test: .* ms(, then \w+ .* ms)?; "
        rf"there is no tuned table of {name}",
        why,
    )


@pytest.mark.parametrize("mode", ["forward", "train"])
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_nothing_that_can_run_is_predicted_to_be_faster(dtype: str, mode: str) -> None:
    """The choice is compared with the default of every kernel that has a model, in training too."""
    problem = NARROW.replace(dtype=dtype, mode=mode)
    model, chosen = TimeModel.of(problem, CPU), choose(problem, CPU)
    able = [KERNELS.load(name) for name in candidates(CPU)]
    times = [model.seconds(kernel, kernel.space(problem, CPU)[0]) for kernel in able if not kernel.refuses(problem)]
    best = model.seconds(chosen.kernel, chosen.config)
    assert len(times) == 6
    assert best is not None
    assert all(time is not None and best <= time for time in times)


def test_products_that_the_processor_lacks_are_done_in_another_dtype() -> None:
    """The configuration is the best by the model: float16 without instructions for it is multiplied in float32."""
    kernel, config, _, _ = choose(NARROW.replace(dtype="float16", T=2048), CPU)
    assert (kernel.name, config["compute"]) == ("scatter", "float32")


def test_every_kernel_that_can_run_on_a_cpu_is_a_candidate_there_and_on_a_gpu_those_with_a_place() -> None:
    triton = ("triton_scatter", "triton_padded", "triton_block_sparse")
    assert candidates(torch.device("cuda", 0)) == (*triton, "grouped", "scatter", "padded")
    assert candidates(CPU) == ("scatter", "grouped", "loop", "block_sparse", "padded", "gshard_einsum")


def test_a_choice_takes_milliseconds() -> None:
    """A choice is made once for every number of tokens; the fastest of some tries, because other processes run too."""
    tries = []
    for T in range(500, 510):
        start = time.perf_counter()
        choose(NARROW.replace(T=T), CPU)
        tries.append(time.perf_counter() - start)
    assert min(tries) < 20e-3


def test_a_kernel_that_pads_leaves_uneven_calls_to_another(monkeypatch: pytest.MonkeyPatch) -> None:
    """Which of the two runs depends on the rows of the fullest expert, call by call."""
    chosen = choose(NARROW, CPU)
    assert chosen.kernel.name == "padded"
    assert chosen.skewed is not None
    fullest = max(rows_of_experts(expected_routing(NARROW)))
    assert chosen.skewed.kernel.name == "grouped"
    assert fullest < chosen.skewed.most_rows < 4 * fullest
    ran = []
    for kernel in (chosen.kernel, chosen.skewed.kernel):
        monkeypatch.setattr(type(kernel), "build", lambda self, *_: lambda *_: ran.append(self.name))
    layer = chosen.build(NARROW, CPU)
    weights = Weights(w_up_EUD=torch.empty(0), w_down_EDF=torch.empty(0))
    for load in ("uniform", "hot", "uniform"):
        layer(torch.empty(0), draw_routes(NARROW.replace(load=load), seed=3, device=CPU), weights)
    assert ran == ["padded", "grouped", "padded"]


def test_a_time_that_was_measured_under_another_load_is_corrected_by_the_model(home: Path) -> None:
    """Padding to the fullest of even experts is fast, and was measured; to that of uneven ones it is not."""
    kernel = KERNELS.load("padded")
    default = kernel.space(NARROW, CPU)[0]
    seconds = TimeModel.of(NARROW, CPU).seconds(kernel, default)
    assert seconds is not None
    even = entry(bucket(NARROW.T, [seconds * 1e9]), shape=shape_of(NARROW), configs=(default,))
    put(home, table(even, kernel="padded", source=source_hash("padded")))
    for load, name in (("uniform", "padded"), ("zipf:0.25", "padded"), ("zipf:1", "grouped"), ("hot", "grouped")):
        assert choose(NARROW.replace(load=load), CPU, nearest=True).kernel.name == name
    model = TimeModel.of(NARROW.replace(load="zipf:0.25"), CPU)
    found = lookup.Found(config=default, why="", seconds=1e-3, instead="uniform")
    slower = model.under_own_load(kernel, found).seconds
    assert 1e-3 < slower < 4e-3
    for other in (dataclasses.replace(found, instead=""), dataclasses.replace(found, instead="trace:x#01234567")):
        assert model.under_own_load(kernel, other) is other


def test_with_a_capacity_padding_is_bounded_and_nothing_is_counted() -> None:
    assert choose(NARROW.replace(capacity_factor=1.25), CPU).skewed is None
    assert choose(NARROW.replace(T=8192), CPU).skewed is None, "scatter does not pad"


def test_a_named_kernel_is_taken_whatever_the_order() -> None:
    assert choose(FEW, CPU, "loop").kernel.name == "loop"


def test_a_refusal_gives_the_kernels_reason_and_the_way_out() -> None:
    with pytest.raises(ValueError, match=r"loop: is dropless, .* capacity_factor = 2; .* dispatch = 'auto'"):
        choose(FEW.replace(capacity_factor=2.0), CPU, "loop")


def test_when_no_kernel_supports_the_problem_every_reason_is_given() -> None:
    with pytest.raises(ValueError, match="no kernel can run this") as caught:
        choose(FEW.replace(capacity_factor=2.0, bias=True), CPU)
    assert all(f"{name}: " in str(caught.value) for name in candidates(CPU))
    assert "bias = True" in str(caught.value)


def test_a_reference_rate_is_no_layer() -> None:
    """A reference rate is not chosen even with one expert, where it solves the same problem."""
    with pytest.raises(ValueError, match="dense: is a reference rate"):
        choose(FEW, CPU, "dense")
    for problem in (FEW, FEW.replace(E=1, K=1)):
        with pytest.raises(ValueError, match="matmul: is a reference rate"):
            choose(problem, CPU, "matmul")


def test_an_unknown_name_is_said_to_be_one() -> None:
    with pytest.raises(UnknownName, match="'scater': did you mean scatter"):
        choose(FEW, CPU, "scater")


def test_the_first_valid_configuration_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_default(self: Kernel, problem: Problem, config: Config, device: torch.device) -> bool:
        return config != self.space(problem, device)[0]

    scatter = KERNELS.load("scatter")
    monkeypatch.setattr(type(scatter), "valid", no_default)
    assert choose(FEW, CPU, "scatter").config == scatter.space(FEW, CPU)[1]
    monkeypatch.setattr(type(scatter), "valid", lambda *_: False)
    with pytest.raises(ValueError, match="scatter: has no valid configuration for T16"):
        choose(FEW, CPU, "scatter")


BUCKETS = (bucket(64, [3e3, 2e3, 1e3]), bucket(2048, [3e4, 2e4, 1e4]))  # faster than any prediction
LARGE = PROBLEM.replace(T=2048)
PADDED_SPACE = KERNELS.load("padded").space(LARGE, CPU)


def padded(fastest_ns: float) -> TunedTable:
    times = [9e9] * (len(PADDED_SPACE) - 1) + [fastest_ns]
    buckets = (bucket(64, times, len(times) - 1), bucket(2048, times, len(times) - 1))
    shape = shape_of(LARGE)
    return table(
        entry(*buckets, shape=shape, configs=tuple(PADDED_SPACE)), kernel="padded", source=source_hash("padded")
    )


def predicted(problem: Problem, *names: str) -> float:
    """Return the shortest of the predicted times of some kernels, the best configuration of each."""
    model = TimeModel.of(problem, CPU)
    able = [select.Choice(kernel, kernel.space(problem, CPU)[0], "") for kernel in map(KERNELS.load, names)]
    return model.ranked(able)[0].seconds


@pytest.mark.parametrize("dispatch", ["auto", "scatter"])
def test_what_a_table_covers_is_run_as_tuned(home: Path, dispatch: str) -> None:
    """The tuned configuration is used inside the table's range; outside it is the default, with the reason."""
    put(home, table(entry(*BUCKETS)))
    for T, why in ((2048, "tuned at T = 2048"), (1024, "between T = 64 and T = 2048")):
        assert choose(LARGE.replace(T=T), CPU, dispatch) == (KERNELS.load("scatter"), CONFIGS[2], why, None)
    outside = choose(LARGE.replace(T=2049), CPU, "scatter")
    assert outside.config == KERNELS.load("scatter").space(LARGE, CPU)[0]
    assert "T = 2049 (1024.5 rows per expert) is outside the tuned T = 64 to 2048" in outside.why


def test_a_stale_table_is_used_only_where_the_user_says_so(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(home, table(entry(*BUCKETS), source="0" * 12))
    assert choose(LARGE, CPU, "scatter").config == CONFIGS[0]
    assert f"set {STALE}=1" in choose(LARGE, CPU, "scatter").why
    monkeypatch.setenv(STALE, "1")
    assert choose(LARGE, CPU).config == CONFIGS[2]
    assert "stale" in choose(LARGE, CPU).why


OTHERS = ("grouped", "loop", "block_sparse", "gshard_einsum")


@pytest.mark.parametrize(("share", "tuned"), [(0.5, True), (0.99 / TRUSTED, True), (1.01 / TRUSTED, False)])
def test_a_measured_time_counts_unless_another_kernel_is_predicted_to_need_far_less(
    home: Path, share: float, tuned: bool
) -> None:
    """A table of any kernel is used, whatever its place, where its time is one that the model cannot beat clearly."""
    best = predicted(LARGE, "scatter", *OTHERS)
    put(home, padded(1e9 * share * best))
    kernel, config, why, _ = choose(LARGE, CPU)
    if tuned:
        assert (kernel.name, config, why) == ("padded", PADDED_SPACE[-1], "tuned, the default was kept, at T = 2048")
    else:
        assert kernel.name != "padded"
        assert f"padded takes {1e3 * share * best:.3g} ms as tuned" in why


def test_of_two_measured_kernels_the_faster_is_taken_and_never_in_place_of_one_that_was_named(home: Path) -> None:
    put(home, table(entry(*BUCKETS)))
    put(home, padded(1.0))
    assert choose(LARGE, CPU)[:2] == (KERNELS.load("padded"), PADDED_SPACE[-1])
    assert choose(LARGE, CPU, "scatter").kernel.name == "scatter"
    put(home, padded(9e9))
    assert choose(LARGE, CPU).kernel.name == "scatter", "it is slower"


def test_a_corrupt_table_changes_nothing(home: Path) -> None:
    before = choose(LARGE, CPU)
    (home / "scatter.json").write_text("{")
    assert choose(LARGE, CPU) == before
