"""Selection of a kernel for a layer that names none, and the error when none fits."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tables import CONFIGS, PROBLEM, bucket, entry, table

from moebench.common.names import UnknownName
from moebench.kernels.catalog import KERNELS
from moebench.kernels.config import Config
from moebench.kernels.kernel import Kernel
from moebench.kernels.problem import Problem
from moebench.kernels.tuned.lookup import FOLDER, STALE
from moebench.kernels.tuned.select import FEW_ROWS, choose, preference
from moebench.kernels.tuned.source_hash import source_hash
from moebench.kernels.tuned.tuned_table import TunedTable, shape_of

CPU = torch.device("cpu")
FEW = Problem(T=16, D=16, F=32, E=4, K=2)
MANY = FEW.replace(T=2 * FEW_ROWS)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return an empty folder of tables."""
    monkeypatch.setenv(FOLDER, str(tmp_path))
    monkeypatch.delenv(STALE, raising=False)
    return tmp_path


def put(home: Path, one: TunedTable) -> None:
    (home / f"{one.kernel}.json").write_text(one.text(), encoding="utf-8")


@pytest.mark.parametrize(
    ("problem", "name"),
    [
        (MANY, "scatter"),
        (MANY.replace(T=MANY.T - 1), "grouped"),
        (FEW, "grouped"),
        (FEW.replace(D=7), "scatter"),  # grouped wants aligned widths
        (FEW.replace(bias=True), "grouped"),
        (FEW.replace(capacity_factor=1.0), "padded"),
        (MANY.replace(capacity_factor=1.0), "padded"),
        (FEW.replace(T=0), "grouped"),
    ],
    ids=str,
)
@pytest.mark.parametrize("mode", ["forward", "train"])
def test_on_a_cpu_rows_for_each_expert_decide(problem: Problem, name: str, mode: str) -> None:
    kernel, config, why = choose(problem.replace(mode=mode), CPU)
    assert kernel.name == name
    assert config == kernel.space(problem, CPU)[0]
    assert why == f"the kernel's default; there is no tuned table of {name}"


def test_the_order_is_that_of_the_kernels_own_places() -> None:
    """On a CPU grouped comes before scatter where experts have few rows."""
    triton = ("triton_scatter", "triton_padded", "triton_block_sparse")
    assert preference(FEW, torch.device("cuda", 0)) == (*triton, "grouped", "scatter", "padded")
    assert preference(MANY, CPU) == ("scatter", "grouped", "loop", "block_sparse", "padded")
    assert preference(FEW, CPU) == ("grouped", "scatter", "loop", "block_sparse", "padded")


def test_a_named_kernel_is_taken_whatever_the_order() -> None:
    assert choose(FEW, CPU, "loop").kernel.name == "loop"


def test_a_refusal_gives_the_kernels_reason_and_the_way_out() -> None:
    with pytest.raises(ValueError, match=r"loop: is dropless, .* capacity_factor = 2; .* dispatch = 'auto'"):
        choose(FEW.replace(capacity_factor=2.0), CPU, "loop")


def test_when_no_kernel_supports_the_problem_every_reason_is_given() -> None:
    with pytest.raises(ValueError, match="no kernel can run this") as caught:
        choose(FEW.replace(capacity_factor=2.0, bias=True), CPU)
    assert all(f"{name}: " in str(caught.value) for name in preference(FEW, CPU))
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


BUCKETS = (bucket(64, [3e6, 2e6, 1e6]), bucket(2048, [3e7, 2e7, 1e7]))
LARGE = PROBLEM.replace(T=2048)  # where scatter comes first
PADDED_SPACE = KERNELS.load("padded").space(LARGE, CPU)


def padded(fastest_ns: float) -> TunedTable:
    times = [9e9] * (len(PADDED_SPACE) - 1) + [fastest_ns]
    buckets = (bucket(64, times, len(times) - 1), bucket(2048, times, len(times) - 1))
    shape = shape_of(LARGE)
    return table(
        entry(*buckets, shape=shape, configs=tuple(PADDED_SPACE)), kernel="padded", source=source_hash("padded")
    )


@pytest.mark.parametrize("dispatch", ["auto", "scatter"])
def test_what_a_table_covers_is_run_as_tuned(home: Path, dispatch: str) -> None:
    """The tuned configuration is used inside the table's range; outside it is the default, with the reason."""
    put(home, table(entry(*BUCKETS)))
    for T, why in ((2048, "tuned at T = 2048"), (1024, "between T = 64 and T = 2048")):
        assert choose(LARGE.replace(T=T), CPU, dispatch) == (KERNELS.load("scatter"), CONFIGS[2], why)
    outside = choose(LARGE.replace(T=2049), CPU, dispatch)
    assert outside.config == KERNELS.load("scatter").space(LARGE, CPU)[0]
    assert "T = 2049 (1024.5 rows per expert) is outside the tuned T = 64 to 2048" in outside.why


def test_a_stale_table_is_used_only_where_the_user_says_so(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(home, table(entry(*BUCKETS), source="0" * 12))
    assert choose(LARGE, CPU).config == CONFIGS[0]
    assert f"set {STALE}=1" in choose(LARGE, CPU).why
    monkeypatch.setenv(STALE, "1")
    assert choose(LARGE, CPU).config == CONFIGS[2]
    assert "stale" in choose(LARGE, CPU).why


def test_another_kernel_that_is_faster_as_tuned_takes_the_place_of_the_first(home: Path) -> None:
    """A faster kernel is chosen only where both are measured, and never in place of one that was named."""
    put(home, padded(1.0))
    assert choose(LARGE, CPU).kernel.name == "scatter", "of the first nothing is known"
    put(home, table(entry(*BUCKETS)))
    assert choose(LARGE, CPU)[:2] == (KERNELS.load("padded"), PADDED_SPACE[-1])
    assert choose(LARGE, CPU, "scatter").kernel.name == "scatter"
    put(home, padded(9e9))
    assert choose(LARGE, CPU).kernel.name == "scatter", "it is slower"


def test_a_corrupt_table_changes_nothing(home: Path) -> None:
    (home / "scatter.json").write_text("{")
    assert choose(LARGE, CPU).config == CONFIGS[0]
