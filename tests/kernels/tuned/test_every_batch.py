"""Choice for every batch: one configuration whatever the number of tokens, and only where its bits are guaranteed."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tables import CONFIGS, bucket, entry

from moebench.kernels.catalog import KERNELS
from moebench.kernels.hardware.device_limits import assuming
from moebench.kernels.hardware.gpus import HARDWARE
from moebench.kernels.problem import Problem
from moebench.kernels.problem.models import model
from moebench.kernels.tuned import every_batch
from moebench.kernels.tuned.every_batch import ROWS, choose_for_every_batch
from moebench.kernels.tuned.lookup import FOLDER, Found, NotCovered, answer_every_batch

META = torch.device("meta")  # launches are only recorded there, and the limits of a GPU assumed
CPU = torch.device("cpu")
TRITON = ("triton_scatter", "triton_block_sparse")


@pytest.fixture(autouse=True)
def no_tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(FOLDER, str(tmp_path))


@pytest.mark.parametrize("target", HARDWARE)
@pytest.mark.parametrize("kernel", TRITON)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_configuration_is_the_same_for_every_number_of_tokens_and_both_modes(
    target: str, kernel: str, dtype: str
) -> None:
    problem = model("Mixtral-8x7B").problem(T=1, dtype=dtype)
    with assuming(HARDWARE[target]):
        chosen = [
            choose_for_every_batch(problem.replace(T=T, mode=mode), META, kernel)
            for T in (0, 1, 3, 64, 4096, 100_000)
            for mode in ("forward", "train")
        ]
        others = [KERNELS.load(kernel).space(problem.replace(T=T), META)[0] for T in (1, 4096)]
    assert all(one == chosen[0] for one in chosen)
    assert chosen[0].kernel.guarantee(problem, chosen[0].config).of_every_batch
    assert f"the default for {ROWS} rows" in chosen[0].why
    assert others[0] != others[1], "the usual choice depends on the batch"


def test_without_a_name_it_is_the_first_in_preference_that_guarantees(monkeypatch: pytest.MonkeyPatch) -> None:
    preferred = ("loop", "scatter", *(kernel.name for kernel in KERNELS.preferred("cuda")))
    monkeypatch.setattr(every_batch, "candidates", lambda _: preferred)
    with assuming(HARDWARE["sm_90"]):
        chosen = choose_for_every_batch(model("Mixtral-8x7B").problem(T=64, dtype="bfloat16"), META)
    assert chosen.kernel.name == "triton_scatter"


def test_on_a_cpu_the_reasons_are_named() -> None:
    with pytest.raises(ValueError, match=r"no kernel on cpu guarantees .*scatter: guarantees no bits.*a GPU"):
        choose_for_every_batch(Problem(T=16, D=32, F=64, E=4, K=2), CPU)


def test_a_kernel_that_guarantees_nothing_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="loop: guarantees no bits of a token in other batches"):
        choose_for_every_batch(Problem(T=16, D=32, F=64, E=4, K=2), CPU, "loop")


def test_a_capacity_is_refused() -> None:
    problem = Problem(T=16, D=32, F=64, E=4, K=2, capacity_factor=1.25)
    with pytest.raises(ValueError, match=r"capacity_factor = 1\.25: who is dropped .* give None"):
        choose_for_every_batch(problem, CPU, "triton_scatter")


def test_of_a_table_it_takes_what_loses_least_where_it_loses_most() -> None:
    """The first is the fastest twice and three times slower once; the second is never the fastest and always near."""
    tuned = entry(bucket(16, [1e6, 1.1e6, 2e6]), bucket(64, [2e6, 2.2e6, 3e6]), bucket(256, [9e6, 3.6e6, 3e6]))
    found = answer_every_batch(tuned, lambda config: config)
    assert isinstance(found, Found)
    assert found.config == CONFIGS[1]
    assert found.why == "tuned, at most 20 % slower than the fastest for T = 16 to 256"


def test_what_was_not_measured_everywhere_or_may_not_be_used_is_passed_over() -> None:
    tuned = entry(bucket(16, [2e6, 1e6, None]), bucket(64, [2e6, 1e6, 1e5]))
    found = answer_every_batch(tuned, lambda config: None if config == CONFIGS[1] else config)
    assert isinstance(found, Found)
    assert found.config == CONFIGS[0]
    assert isinstance(answer_every_batch(tuned, lambda _: None), NotCovered)
