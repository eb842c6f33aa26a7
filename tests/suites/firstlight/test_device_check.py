"""Check of a device: an unfit device is refused in one line with the reason and the remedy."""

from __future__ import annotations

import itertools
import subprocess
import sys

import pytest
import torch
from fake_gpu import FakeGpu
from fake_nvml import FakeNvml

from moebench.results.timing import gpu_check
from moebench.suites.firstlight import device_check
from moebench.suites.firstlight.device_check import UNFIT, DeviceError, fit
from moebench.suites.firstlight.programs import device as program


@pytest.fixture
def h100(monkeypatch: pytest.MonkeyPatch) -> FakeGpu:
    return FakeGpu(monkeypatch)


@pytest.fixture
def nvml(monkeypatch: pytest.MonkeyPatch) -> FakeNvml:
    fake = FakeNvml()
    monkeypatch.setitem(sys.modules, "pynvml", fake)
    return fake


def refusal(capsys: pytest.CaptureFixture[str]) -> str:
    """Return the one line in which the program refuses the device."""
    with pytest.raises(SystemExit) as ended:
        program.main()
    out, err = capsys.readouterr()
    assert (ended.value.code, out, err.count("\n")) == (UNFIT, "", 1)
    return err


@pytest.mark.usefixtures("h100", "nvml")
def test_a_free_device_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    program.main()
    assert capsys.readouterr().out == "NVIDIA H100\n"


@pytest.mark.usefixtures("nvml")
def test_a_device_that_cannot_be_measured_on_is_refused_with_the_option_that_needs_none(
    h100: FakeGpu, capsys: pytest.CaptureFixture[str]
) -> None:
    h100.capability = (7, 5)
    said = refusal(capsys)
    assert "compute capability 7.5" in said
    assert "or --rehearse" in said
    assert "--device" not in said  # there is no such option


@pytest.mark.usefixtures("h100")
def test_a_busy_device_is_refused(
    nvml: FakeNvml, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(gpu_check, "CALM_S", 0.0)
    nvml.busy = itertools.repeat(97)
    assert "busy, 97 % of the time" in refusal(capsys)


@pytest.mark.usefixtures("nvml")
def test_a_device_whose_memory_others_hold_is_refused(h100: FakeGpu, capsys: pytest.CaptureFixture[str]) -> None:
    h100.held_bytes = 30 << 30
    said = refusal(capsys)
    assert "GPU 0 (NVIDIA H100) is not free, other processes hold 30.0 of its 80.0 GiB" in said
    assert "CUDA_VISIBLE_DEVICES" in said


def answering(monkeypatch: pytest.MonkeyPatch, code: int, out: str, err: str = "") -> None:
    done = subprocess.CompletedProcess([], code, out, err)
    monkeypatch.setattr(subprocess, "run", lambda *_args, **_kwargs: done)


def test_the_name_is_read_from_the_other_process(monkeypatch: pytest.MonkeyPatch) -> None:
    answering(monkeypatch, 0, "a warning of torch\nNVIDIA H100\n")
    assert fit() == "NVIDIA H100"


@pytest.mark.parametrize(
    ("code", "err", "said"),
    [
        (
            UNFIT,
            "a warning of torch\nGPU 0 (NVIDIA H100) is busy: end it\n",
            r"^GPU 0 \(NVIDIA H100\) is busy: end it$",
        ),
        (1, "Traceback\nImportError: libcudart.so.13\n", "libcudart.so.13.*: repair its installation"),
        (-11, "", "exit code -11.*: repair its installation"),
    ],
)
def test_the_reason_of_a_refusal_is_one_line(code: int, err: str, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    answering(monkeypatch, code, "", err)
    with pytest.raises(DeviceError, match=said):
        fit()


def test_a_driver_that_hangs_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    def hang(command: list[str], **_: object) -> None:
        raise subprocess.TimeoutExpired(command, device_check.LIMIT_S)

    monkeypatch.setattr(subprocess, "run", hang)
    with pytest.raises(DeviceError, match="nvidia-smi"):
        fit()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a device")
def test_where_there_is_no_device_a_rehearsal_is_offered() -> None:
    with pytest.raises(DeviceError, match="torch sees 0 CUDA devices, 1 wanted; use --rehearse"):
        fit()
