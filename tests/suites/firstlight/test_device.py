"""Devices that should not be measured, each with one line that says why and what to do."""

from __future__ import annotations

import json
import subprocess
from dataclasses import asdict, replace
from typing import Any

import pytest
import torch

from moebench.suites.firstlight import device
from moebench.suites.firstlight.device import DeviceError, Properties, ask, fit, refusal
from moebench.suites.firstlight.programs import device as program

H100 = Properties(
    name="NVIDIA H100 80GB HBM3",
    capability=(9, 0),
    bf16=True,
    held_bytes=600 << 20,  # the context of the process that asks
    total_bytes=80 << 30,
    busy_percent=0,
)


def test_a_free_device_is_fit() -> None:
    assert refusal(H100) is None
    assert refusal(replace(H100, busy_percent=None)) is None
    assert refusal(replace(H100, capability=(8, 0))) is None


@pytest.mark.parametrize(
    ("changes", "value", "remedy"),
    [
        ({"capability": (7, 5)}, "compute capability 7.5", "8.0 or later"),
        ({"bf16": False}, "no products of bfloat16", "8.0 or later"),
        ({"compute_mode": 3}, "compute mode exclusive", "--compute-mode=DEFAULT"),
        ({"compute_mode": 2}, "compute mode prohibited", "--compute-mode=DEFAULT"),
        ({"held_bytes": 12 << 30}, "12.0 of its 80.0 GiB", "CUDA_VISIBLE_DEVICES"),
        ({"busy_percent": 97}, "97 %", "CUDA_VISIBLE_DEVICES"),
        ({"error": "AcceleratorError: CUDA error: all devices are busy"}, "all devices are busy", "end the other"),
    ],
)
def test_others_are_refused_in_one_line(changes: dict[str, Any], value: str, remedy: str) -> None:
    said = refusal(replace(H100, **changes))
    assert said is not None
    assert said.startswith(H100.name)
    assert value in said
    assert remedy in said
    assert "\n" not in said


def answering(monkeypatch: pytest.MonkeyPatch, code: int, out: str, err: str = "") -> None:
    done = subprocess.CompletedProcess([], code, out, err)
    monkeypatch.setattr(subprocess, "run", lambda *_args, **_kwargs: done)


def test_the_properties_come_back_from_the_process_that_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    answering(monkeypatch, 0, f"a warning of torch\n{json.dumps(asdict(H100))}\n")
    assert ask() == H100
    assert fit() == H100


@pytest.mark.parametrize(
    ("code", "out", "err", "said"),
    [
        (0, "null\n", "", "--rehearse"),
        (1, "", "Traceback\nImportError: libcudart.so.13\n", "libcudart.so.13"),
        (-11, "", "", "exit code -11"),
        (0, json.dumps(asdict(replace(H100, capability=(7, 0)))), "", "7.0"),
    ],
)
def test_no_device_is_one_line_too(code: int, out: str, err: str, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    answering(monkeypatch, code, out, err)
    with pytest.raises(DeviceError, match=said):
        fit()


def test_a_driver_that_hangs_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def hang(command: list[str], **_: object) -> None:
        raise subprocess.TimeoutExpired(command, device.LIMIT_S)

    monkeypatch.setattr(subprocess, "run", hang)
    with pytest.raises(DeviceError, match="nvidia-smi"):
        ask()


class FakeCuda:
    """As much of torch.cuda as the program asks, of an H100 that others use."""

    def __init__(self, *, broken: bool = False) -> None:
        self.broken = broken

    def get_device_properties(self, _index: int) -> object:
        class Found:
            name, major, minor, uuid = "NVIDIA H100 80GB HBM3", 9, 0, "1234"

        return Found

    def is_bf16_supported(self, *, including_emulation: bool) -> bool:
        return not including_emulation

    def mem_get_info(self, _index: int) -> tuple[int, int]:
        if self.broken:
            raise RuntimeError("CUDA error: CUDA-capable device(s) is/are busy or unavailable\nmore")
        return 50 << 30, 80 << 30

    def memory_reserved(self, _index: int) -> int:
        return 2 << 20


@pytest.mark.parametrize("broken", [False, True])
def test_what_the_first_use_raises_is_a_property(broken: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "cuda", FakeCuda(broken=broken))
    monkeypatch.setattr(torch, "ones", lambda size, **_: torch.zeros(size))
    monkeypatch.setattr(program, "compute_mode", lambda: 0)
    found = program.properties()
    said = refusal(found)
    assert said is not None
    assert ("busy or unavailable" if broken else "others hold 30.0 of its 80.0 GiB") in said
    assert "more" not in said


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a driver")
def test_without_a_driver_nobody_knows_the_mode_or_how_busy_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert program.compute_mode() == 0
    assert program.busy_percent("GPU-1234") is None
    program.main()
    assert capsys.readouterr().out == "null\n"
