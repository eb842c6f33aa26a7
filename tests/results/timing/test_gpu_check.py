"""A GPU that cannot be measured on is refused in one line with its name, the value and the remedy."""

from __future__ import annotations

import itertools
import sys
from typing import Any

import pytest
import torch
from fake_gpu import FakeGpu
from fake_nvml import FakeError, FakeNvml

from moebench.execution.workers.rank_setup import open_trial_runner
from moebench.execution.workers.rendezvous import FileRendezvous, RankInfo
from moebench.results.timing import gpu_check
from moebench.results.timing.gpu_check import UnfitGpu, check_gpu, check_idle


@pytest.fixture
def h100(monkeypatch: pytest.MonkeyPatch) -> FakeGpu:
    return FakeGpu(monkeypatch)


@pytest.fixture
def nvml(monkeypatch: pytest.MonkeyPatch) -> FakeNvml:
    fake = FakeNvml()
    monkeypatch.setitem(sys.modules, "pynvml", fake)
    return fake


def refusal(**changes: Any) -> str:
    with pytest.raises(UnfitGpu) as refused:
        check_gpu(changes.get("index", 0), wanted=changes.get("wanted", 1))
    reason = str(refused.value)
    assert "\n" not in reason
    return reason


@pytest.mark.usefixtures("nvml")
def test_a_gpu_that_can_be_measured_on_is_opened(h100: FakeGpu) -> None:
    check_gpu(0, wanted=1)
    assert h100.opened == 1


@pytest.mark.usefixtures("h100", "nvml")
def test_a_gpu_that_is_not_there() -> None:
    assert refusal(index=1, wanted=2) == "torch sees 1 CUDA devices, 2 wanted; use --device cpu"


@pytest.mark.usefixtures("nvml")
def test_a_gpu_older_than_ampere_is_not_even_opened(h100: FakeGpu) -> None:
    h100.capability = (7, 5)
    reason = refusal()
    assert reason.startswith("GPU 0 (NVIDIA H100) has compute capability 7.5, moebench measures from 8.0 (Ampere) on")
    assert "--device cpu" in reason
    assert h100.opened == 0


@pytest.mark.usefixtures("h100")
def test_a_caller_that_has_another_option_names_it() -> None:
    with pytest.raises(UnfitGpu, match=r"2 wanted; use --rehearse$"):
        check_gpu(1, wanted=2, instead="--rehearse")


@pytest.mark.usefixtures("nvml")
def test_a_gpu_without_bfloat16(h100: FakeGpu) -> None:
    h100.bfloat16 = False
    assert "has no products of bfloat16, which suites measure: use another GPU" in refusal()


@pytest.mark.parametrize(("mode", "word"), [(1, "exclusive-thread"), (2, "prohibited"), (3, "exclusive-process")])
def test_a_gpu_in_exclusive_mode_is_refused_though_it_would_open(
    h100: FakeGpu, nvml: FakeNvml, mode: int, word: str
) -> None:
    nvml.mode = mode
    reason = refusal()
    assert f"is in {word} mode" in reason
    assert "nvidia-smi -i 0 -c DEFAULT" in reason
    assert h100.opened == 0


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("CUDA error: CUDA-capable device(s) is/are busy or unavailable\nCUDA kernel errors might be"),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 MiB."),
        AssertionError("Torch not compiled with CUDA enabled"),
    ],
    ids=str,
)
def test_a_gpu_that_does_not_open(h100: FakeGpu, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    """Without NVML too, which alone knows the mode."""
    monkeypatch.setitem(sys.modules, "pynvml", None)
    h100.opening = error
    reason = refusal()
    assert reason.startswith(f"GPU 0 cannot be opened ({str(error).splitlines()[0]})")
    assert "nvidia-smi" in reason
    assert "--device cpu" in reason


@pytest.mark.usefixtures("h100")
def test_what_has_just_ended_is_waited_for(nvml: FakeNvml, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_check, "POLL_S", 0.0)
    nvml.busy = iter([100, 40, 0, 99])
    check_idle(0)
    assert list(nvml.busy) == [99]


@pytest.mark.usefixtures("h100")
def test_a_gpu_that_others_compute_on_is_busy(nvml: FakeNvml, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_check, "CALM_S", 0.0)
    nvml.busy = itertools.repeat(97)
    with pytest.raises(UnfitGpu, match=r"^GPU 0 \(NVIDIA H100\) is busy, 97 % of the time, .*: end it"):
        check_idle(0)


@pytest.mark.usefixtures("h100")
def test_a_gpu_of_which_nothing_is_known_is_taken_for_idle(nvml: FakeNvml, monkeypatch: pytest.MonkeyPatch) -> None:
    nvml.refuses["nvmlDeviceGetUtilizationRates"] = FakeError("Not Supported")
    check_idle(0)
    monkeypatch.setitem(sys.modules, "pynvml", None)
    check_idle(0)


def test_a_worker_refuses_before_it_is_ready_and_takes_turns_on_a_busy_gpu(
    h100: FakeGpu, nvml: FakeNvml, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    """A process that measures in turns with another keeps the device busy for it."""
    monkeypatch.setattr(gpu_check, "CALM_S", 0.0)
    seat = RankInfo(rank=0, ranks=1, local_rank=0, local_ranks=1)
    nvml.busy = itertools.repeat(97)
    with pytest.raises(UnfitGpu, match="is busy"):
        open_trial_runner(seat, "cuda", FileRendezvous(tmp_path / "meeting"), alone=True)
    nvml.mode = 3
    with pytest.raises(UnfitGpu, match="exclusive-process"):
        open_trial_runner(seat, "cuda", FileRendezvous(tmp_path / "meeting"), alone=False)
    assert h100.opened == 0
